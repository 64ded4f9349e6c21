// probe sets up what a caller may set up and runs a command (probe with SETUP... -- COMMAND...), or
// tells what it finds itself (probe state, env, argv), or ends (probe kill, exit).
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;

static void die(const char *what) {
	perror(what);
	exit(99);
}

static void limit(int resource, const char *value) {
	struct rlimit l;
	if (getrlimit(resource, &l)) die("getrlimit");
	l.rlim_cur = strcmp(value, "max") ? strtoul(value, NULL, 10) : l.rlim_max;
	if (setrlimit(resource, &l)) die("setrlimit");
}

// setup does one SETUP; the command gets argv0 where it is not NULL.
static void setup(char *s, char **argv0) {
	char *value = strchr(s, '=');
	if (!value) die(s);
	*value++ = 0;
	if (!strcmp(s, "ignore")) {
		if (signal(atoi(value), SIG_IGN) == SIG_ERR) die("signal");
	} else if (!strcmp(s, "block")) {
		sigset_t set;
		sigemptyset(&set);
		sigaddset(&set, atoi(value));
		if (sigprocmask(SIG_BLOCK, &set, NULL)) die("sigprocmask");
	} else if (!strcmp(s, "pending")) {
		kill(getpid(), atoi(value));
	} else if (!strcmp(s, "close")) {
		close(atoi(value));
	} else if (!strcmp(s, "open")) { // a descriptor of the command's own
		int fd = open("/etc/passwd", O_RDONLY);
		if (fd < 0 || dup2(fd, atoi(value)) < 0) die("open");
		if (fd != atoi(value)) close(fd);
	} else if (!strcmp(s, "nonblock")) {
		if (fcntl(atoi(value), F_SETFL, fcntl(atoi(value), F_GETFL) | O_NONBLOCK)) die("fcntl");
	} else if (!strcmp(s, "null")) { // as others than the Go runtime open it
		int fd = open("/dev/null", O_RDWR);
		if (fd < 0 || dup2(fd, atoi(value)) < 0) die("open");
		if (fd != atoi(value)) close(fd);
	} else if (!strcmp(s, "nofile")) {
		limit(RLIMIT_NOFILE, value);
	} else if (!strcmp(s, "core")) {
		limit(RLIMIT_CORE, value);
	} else if (!strcmp(s, "stack")) {
		limit(RLIMIT_STACK, value);
	} else if (!strcmp(s, "umask")) {
		umask(strtoul(value, NULL, 8));
	} else if (!strcmp(s, "nice")) {
		if (setpriority(PRIO_PROCESS, 0, atoi(value))) die("setpriority");
	} else if (!strcmp(s, "sched")) {
		struct sched_param p = {0};
		if (sched_setscheduler(0, atoi(value), &p)) die("sched_setscheduler");
	} else if (!strcmp(s, "alarm")) {
		alarm(atoi(value));
	} else if (!strcmp(s, "subreaper")) {
		if (prctl(PR_SET_CHILD_SUBREAPER, 1)) die("prctl");
	} else if (!strcmp(s, "nonewprivs")) {
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) die("prctl");
	} else if (!strcmp(s, "slack")) {
		if (prctl(PR_SET_TIMERSLACK, strtoul(value, NULL, 10))) die("prctl");
	} else if (!strcmp(s, "cd")) {
		if (chdir(value)) die("chdir");
	} else if (!strcmp(s, "gone")) { // a current folder that is there no more
		if (mkdir(value, 0700) || chdir(value) || chdir("..") || rename(value, "x") || chdir("x") || rmdir("../x")) die("gone");
	} else if (!strcmp(s, "setsid")) {
		if (setsid() < 0) die("setsid");
	} else if (!strcmp(s, "setpgid")) {
		if (setpgid(0, 0)) die("setpgid");
	} else if (!strcmp(s, "argv0")) {
		*argv0 = value;
	} else if (!strcmp(s, "put")) { // as it is: twice, without a name, without a value
		size_t n = 0;
		while (environ[n]) n++;
		char **more = calloc(n + 2, sizeof *more);
		memcpy(more, environ, n * sizeof *more);
		more[n] = value;
		environ = more;
	} else if (!strcmp(s, "unset")) {
		unsetenv(value);
	} else {
		die(s);
	}
}

static int with(char **args) {
	char *argv0 = NULL;
	for (; *args && strcmp(*args, "--"); args++) setup(*args, &argv0);
	if (!*args) die("--");
	args++;
	char *file = args[0];
	if (argv0) args[0] = argv0;
	execvp(file, args);
	int e = errno;
	perror(file);
	return e == ENOENT ? 127 : 126;
}

// hex prints bytes as they are.
static void hex(const char *s) {
	for (; *s; s++) printf("%02x", (unsigned char)*s);
	printf("\n");
}

static void status(void) {
	static const char *const lines[] = {"Umask", "Uid", "Gid", "Groups", "SigPnd", "ShdPnd", "SigBlk", "SigIgn", "SigCgt", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb",
		"NoNewPrivs", "Seccomp:", "THP_enabled", "Cpus_allowed:", "Mems_allowed:", "VmLck", "Name", "CoreDumping", "Threads"};
	char line[4096];
	FILE *f = fopen("/proc/self/status", "r");
	if (!f) die("/proc/self/status");
	while (fgets(line, sizeof line, f))
		for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
			if (!strncmp(line, lines[i], strlen(lines[i]))) printf("%s", line);
	fclose(f);
}

static void file(const char *path) {
	char text[4096];
	FILE *f = fopen(path, "r");
	size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
	text[n] = 0;
	printf("%s %s\n", path, text);
	if (f) fclose(f);
}

static int state(char **argv) {
	printf("pid %d ppid %d pgid %d sid %d\n", getpid(), getppid(), getpgid(0), getsid(0));
	for (int fd = 0; fd < 1024; fd++) {
		struct stat st;
		int flags = fcntl(fd, F_GETFD);
		if (flags < 0) continue;
		if (fstat(fd, &st)) die("fstat");
		printf("fd %d flags %x mode %x type %o tty %d offset %lld\n", fd, flags, fcntl(fd, F_GETFL), st.st_mode & S_IFMT, isatty(fd), S_ISREG(st.st_mode) ? (long long)lseek(fd, 0, SEEK_CUR) : 0);
	}
	status();
	for (int r = 0; r < RLIM_NLIMITS; r++) {
		struct rlimit l;
		if (getrlimit(r, &l)) die("getrlimit");
		printf("limit %d %lx %lx\n", r, (unsigned long)l.rlim_cur, (unsigned long)l.rlim_max);
	}
	char cwd[4096] = "";
	if (readlink("/proc/self/cwd", cwd, sizeof cwd - 1) < 0) die("cwd");
	int reaper = 0, death = 0;
	prctl(PR_GET_CHILD_SUBREAPER, &reaper);
	prctl(PR_GET_PDEATHSIG, &death);
	struct itimerval timer;
	getitimer(ITIMER_REAL, &timer);
	printf("cwd %s\nnice %d scheduler %d slack %d dumpable %d reaper %d death %d keepcaps %d securebits %d alarm %d\n", cwd, getpriority(PRIO_PROCESS, 0), sched_getscheduler(0),
		prctl(PR_GET_TIMERSLACK), prctl(PR_GET_DUMPABLE), reaper, death, prctl(PR_GET_KEEPCAPS), prctl(PR_GET_SECUREBITS), timer.it_value.tv_sec > 0);
	file("/proc/self/oom_score_adj");
	file("/proc/self/coredump_filter");
	file("/proc/self/personality");
	struct termios t;
	if (!tcgetattr(0, &t)) printf("terminal %x %x %x %x foreground %d\n", t.c_iflag, t.c_oflag, t.c_cflag, t.c_lflag, tcgetpgrp(0) == getpgid(0));
	printf("argv[0] %s\n", argv[0]);
	return 0;
}

int main(int argc, char **argv) {
	if (argc < 2) return 98;
	if (!strcmp(argv[1], "with")) return with(argv + 2);
	if (!strcmp(argv[1], "state")) return state(argv);
	if (!strcmp(argv[1], "exit")) return atoi(argv[2]);
	if (!strcmp(argv[1], "kill")) {
		raise(atoi(argv[2]));
		return 3; // of a signal that is ignored, or that has stopped us
	}
	if (!strcmp(argv[1], "env")) {
		for (char **e = environ; *e; e++) hex(*e);
		return 0;
	}
	if (!strcmp(argv[1], "argv")) {
		for (int i = 0; i < argc; i++) hex(argv[i]);
		return 0;
	}
	return 98;
}
