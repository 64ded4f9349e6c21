package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestChild is the child of the tests below, and no test of its own.
func TestChild(t *testing.T) {
	switch what := os.Getenv("SEGA_TEST_CHILD"); what {
	case "":
		t.Skip("it is for other tests")
	case "parent": // supervises one that stays, and says its number
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		c := &exec.Cmd{Path: self, Args: []string{self, "-test.run=^TestChild$"}, Env: append(os.Environ(), "SEGA_TEST_CHILD=stay"), Stdout: os.Stdout}
		_ = superviseChild(t.Context(), c)
	case "stay":
		fmt.Println("child", os.Getpid())
		select {}
	default:
		code, err := strconv.ParseUint(what, 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		os.Exit(int(code)) // as main does
	}
}

// TestWholeCode: all 32 bits of a child's code come back.
func TestWholeCode(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, code := range []uint32{0, 1, 255, 256, 0x7fffffff, 0x80000000, 0xc000013a, 0xffffffff} {
		env := append(os.Environ(), fmt.Sprintf("SEGA_TEST_CHILD=%d", code))
		err := takeOver(t.Context(), self, []string{self, "-test.run=^TestChild$"}, env)
		if got := uint32(exitCode(err)); got != code {
			t.Errorf("%#x: %#x, %v", code, got, err)
		}
	}
	err = takeOver(t.Context(), `C:\no\such\program.exe`, []string{"x"}, os.Environ())
	var start startError
	if !errors.As(err, &start) || start.code() != 127 {
		t.Errorf("no program: %v", err)
	}
}

// TestChildEndsWithUs: whoever ends sega ends the command.
func TestChildEndsWithUs(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command(self, "-test.run=^TestChild$")
	c.Env = append(os.Environ(), "SEGA_TEST_CHILD=parent")
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	var pid uint32
	for scan := bufio.NewScanner(out); scan.Scan(); {
		if n, _ := fmt.Sscanf(scan.Text(), "child %d", &pid); n == 1 {
			break
		}
	}
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, pid)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = windows.CloseHandle(h) }()
	_ = c.Process.Kill()
	if event, err := windows.WaitForSingleObject(h, uint32(20*time.Second/time.Millisecond)); err != nil || event != windows.WAIT_OBJECT_0 {
		t.Errorf("the child lives on: %d, %v", event, err)
	}
	_ = c.Wait()
}
