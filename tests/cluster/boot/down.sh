#!/bin/bash
# Ends the cluster: its pods, its programs, its mounts, its network namespace, its data. Programs and images stay.
set -uo pipefail
. "$(dirname "$0")/env.sh"
# every program of the cluster, and no other, lives in its network namespace; -x NAME: all but that one and its pods' keepers
programs() { ip netns pids $NETNS 2>/dev/null; }
named() { for pid in $(programs); do case " $* " in *" $(cat "/proc/$pid/comm" 2>/dev/null) "*) echo "$pid" ;; esac; done; }
ended() { # PID…: return once they are gone
  local end=$((SECONDS + 20))
  for pid in "$@"; do
    while [ -d "/proc/$pid" ] && [ $SECONDS -lt $end ]; do sleep 0.05; done
    kill -KILL "$pid" 2>/dev/null
  done
}
end() { # NAME…
  local pids
  pids=$(named "$@")
  [ -z "$pids" ] && return
  kill $pids 2>/dev/null
  ended $pids
}

# the kernel cuts names to 15 letters
end kwok kubelet kube-proxy coredns kube-scheduler kube-controller
if [ -S "$SOCK" ] && client version >/dev/null 2>&1; then
  tasks=$(client tasks ls -q)
  for task in $tasks; do client tasks kill --signal SIGKILL "$task" 2>/dev/null; done
  # a task is deleted only once its process is gone
  for task in $tasks; do client tasks delete --force "$task" >/dev/null 2>&1; done
  containers=$(client containers ls -q)
  [ -z "$containers" ] || client containers delete $containers >/dev/null 2>&1
fi
end kube-apiserver etcd containerd containerd-shim
rest=$(programs)
[ -z "$rest" ] || { kill -KILL $rest 2>/dev/null; ended $rest; }
awk -v state="$STATE/" -v run="$RUN/" 'index($2, state) == 1 || index($2, run) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
ip netns del $NETNS 2>/dev/null
ip link del dayrun-host 2>/dev/null
# what containerd remembers of pods goes with them; its images stay
rm -rf "$STATE" "$RUN" "$CONTAINERD"/io.containerd.grpc.v1.cri/{containers,sandboxes}
exit 0
