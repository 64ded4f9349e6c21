// Command tell says what the package knows, and then becomes the command that follows.
package main

import (
	"fmt"
	"os"
	"syscall"

	"sega/cmd/sega/inherited"
)

func main() {
	fmt.Println(inherited.Withheld(syscall.SIGPIPE), inherited.Withheld(syscall.SIGUSR1), inherited.Withheld(syscall.SIGTERM), len(inherited.Environ()))
	if err := inherited.Restore(); err != nil {
		fmt.Println(err)
	}
	fmt.Println(syscall.Exec(os.Args[1], os.Args[1:], inherited.Environ()))
}
