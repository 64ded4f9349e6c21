#include "textflag.h"

// entry runs where the kernel starts the process, before the Go runtime takes signals and standard
// files over. It keeps what it finds and goes on to the runtime's own entry; the stack is left alone.
TEXT ·entry(SB),NOSPLIT|NOFRAME,$0
	MOVQ	SP, ·stack(SB)

	// rt_sigprocmask(SIG_BLOCK, nil, &mask, 8)
	MOVQ	$0, DI
	MOVQ	$0, SI
	LEAQ	·mask(SB), DX
	MOVQ	$8, R10
	MOVQ	$14, AX
	SYSCALL

	// rt_sigaction(signal, nil, &actions[signal], 8) for 1 to 64
	MOVQ	$1, R12
	LEAQ	·actions(SB), R13
signal:
	ADDQ	$32, R13
	MOVQ	R12, DI
	MOVQ	$0, SI
	MOVQ	R13, DX
	MOVQ	$8, R10
	MOVQ	$13, AX
	SYSCALL
	INCQ	R12
	CMPQ	R12, $64
	JLE	signal

	// descriptors[fd] = fcntl(fd, F_GETFD) for 0 to 2
	MOVQ	$0, R12
	LEAQ	·descriptors(SB), R13
file:
	MOVQ	R12, DI
	MOVQ	$1, SI
	MOVQ	$0, DX
	MOVQ	$72, AX
	SYSCALL
	MOVQ	AX, (R13)(R12*8)
	INCQ	R12
	CMPQ	R12, $3
	JLT	file

	JMP	_rt0_amd64_linux(SB)
