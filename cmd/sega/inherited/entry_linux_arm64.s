#include "textflag.h"

// entry runs where the kernel starts the process, before the Go runtime takes signals and standard
// files over. It keeps what it finds and goes on to the runtime's own entry; the stack is left alone.
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	MOVD	RSP, R0
	MOVD	R0, ·stack(SB)

	// rt_sigprocmask(SIG_BLOCK, nil, &mask, 8)
	MOVD	$0, R0
	MOVD	$0, R1
	MOVD	$·mask(SB), R2
	MOVD	$8, R3
	MOVD	$135, R8
	SVC

	// rt_sigaction(signal, nil, &actions[signal], 8) for 1 to 64
	MOVD	$1, R19
	MOVD	$·actions(SB), R20
signal:
	ADD	$32, R20
	MOVD	R19, R0
	MOVD	$0, R1
	MOVD	R20, R2
	MOVD	$8, R3
	MOVD	$134, R8
	SVC
	ADD	$1, R19
	CMP	$64, R19
	BLE	signal

	// descriptors[fd] = fcntl(fd, F_GETFD) for 0 to 2
	MOVD	$0, R19
	MOVD	$·descriptors(SB), R20
file:
	MOVD	R19, R0
	MOVD	$1, R1
	MOVD	$0, R2
	MOVD	$25, R8
	SVC
	MOVD	R0, (R20)(R19<<3)
	ADD	$1, R19
	CMP	$3, R19
	BLT	file

	JMP	_rt0_arm64_linux(SB)
