// check-compose FILE…: whether Docker Compose would take the files: its own library loads them, with every profile and the environment of
// this process (and nothing else: no .env). Prints the services in the order in which they may start.
package main

import (
	"context"
	"fmt"
	"os"
	"sort"
	"strings"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

func main() {
	options, err := cli.NewProjectOptions(os.Args[1:], cli.WithOsEnv, cli.WithProfiles([]string{"*"}))
	if err == nil {
		var project *types.Project
		project, err = options.LoadProject(context.Background())
		if err == nil {
			for _, name := range project.ServiceNames() {
				needs := []string{}
				for other, how := range project.Services[name].DependsOn {
					needs = append(needs, other+":"+how.Condition)
				}
				sort.Strings(needs)
				fmt.Println(strings.TrimSpace(name + " " + strings.Join(needs, " ")))
			}
			return
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
