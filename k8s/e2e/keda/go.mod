// KEDA's module for the sake of its CRDs, which the overlay `keda` needs: `fetch` gets it, nothing is built.
module dccf/k8s/e2e/keda

go 1.24.0

require github.com/kedacore/keda/v2 v2.21.0
