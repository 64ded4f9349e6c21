package doctor

import "os"

// writable does not know: ACLs are judged by the system when something is written.
func writable(string) error { return nil }

func mine(os.FileInfo) bool { return true }
