package main

import "syscall"

func ownSession() *syscall.SysProcAttr { return &syscall.SysProcAttr{HideWindow: true} }

func letGo() {}
