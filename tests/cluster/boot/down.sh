#!/bin/bash
# Ends the cluster: its pods, its programs, its mounts, its network namespaces, its data. Programs and images stay.
set -uo pipefail
. "$(dirname "$0")/env.sh"
# Every program of the cluster, and no other, lives in its network namespace. Their data go too: nothing has to be given time to end
# but containerd, whose images stay.
end() { # SIGNAL NAME…: the programs of these names, which the kernel cuts to 15 letters; all of them without a name. Waits for it.
  local signal=$1 pids=() pid
  shift
  for pid in $(ip netns pids $NETNS 2>/dev/null); do
    [ $# -gt 0 ] && [[ " $* " != *" $(cat "/proc/$pid/comm" 2>/dev/null) "* ]] || pids+=("$pid")
  done
  [ ${#pids[@]} -eq 0 ] && return
  kill "-$signal" "${pids[@]}" 2>/dev/null
  for pid in "${pids[@]}"; do timeout 20 tail --pid="$pid" -f /dev/null; done
}

end KILL kwok kubelet kube-proxy coredns kube-scheduler kube-controller kube-apiserver etcd
if [ -S "$SOCK" ] && client version >/dev/null 2>&1; then
  for task in $(client tasks ls -q); do client tasks delete --force "$task" >/dev/null 2>&1; done
  for container in $(client containers ls -q); do
    space=$(client containers info "$container" | grep -om1 'netns/cni-[0-9a-f-]*')
    client containers delete "$container" >/dev/null 2>&1
    # each sandbox names its own, which its containers share
    [ -z "$space" ] || ip netns del "${space#netns/}" 2>/dev/null
  done
fi
end TERM containerd
end KILL
awk -v state="$STATE/" -v run="$RUN/" 'index($2, state) == 1 || index($2, run) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
ip netns del $NETNS 2>/dev/null
ip link del dayrun-host 2>/dev/null
# what containerd remembers of pods goes with them; its images stay
rm -rf "$STATE" "$RUN" "$CONTAINERD"/io.containerd.grpc.v1.cri/{containers,sandboxes}
exit 0
