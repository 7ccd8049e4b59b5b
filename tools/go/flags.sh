# How every Go program of this project's checks is built, here and for the test cluster: with the same flags they share what is compiled.
# Static, and without the machine's paths and symbols, which are not even written: they are copied into images and into caches.
# Nothing is inlined (-l), which is a quarter of the compiler's work: these programs wait more than they compute.
export CGO_ENABLED=0 GOFLAGS="${GOFLAGS:-} -trimpath -buildvcs=false '-gcflags=all=-dwarf=false -l'"
export GOGC=400 # the compiler is a Go program, too: its collector takes a tenth of the time otherwise
