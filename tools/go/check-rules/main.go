// check-rules FILE…: whether each is a file of rules that Prometheus would load: its groups, its PromQL and its templates.
package main

import (
	"fmt"
	"os"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/rulefmt"
)

func main() {
	broken := false
	for _, file := range os.Args[1:] {
		_, found := rulefmt.ParseFile(file, false, model.UTF8Validation)
		for _, one := range found {
			broken = true
			fmt.Fprintln(os.Stderr, one)
		}
	}
	if broken {
		os.Exit(1)
	}
}
