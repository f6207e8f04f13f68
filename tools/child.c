/* SPDX-License-Identifier: MIT */
/*
 * A program that a verb starts and waits for. One at a time; a signal handler that does nothing
 * but look whose it is, and kill().
 */
#include "child.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t child;

/*
 * What a terminal sends goes to all of its group, the child included; but that it hangs up, to the
 * leader of the session.
 */
static bool child_has_it(int signal, const siginfo_t *info)
{
	if (info->si_code != SI_KERNEL)
		return false;
	return signal == SIGINT || signal == SIGQUIT || (signal == SIGHUP && getsid(0) != getpid());
}

static void pass_on(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (child > 0 && !child_has_it(signal, info))
		kill((pid_t)child, signal);
}

static const int passed_on[] = { SIGHUP,  SIGINT,  SIGQUIT, SIGTERM,
				 SIGUSR1, SIGUSR2, SIGALRM, SIGCONT };

/* What is ignored (nohup(1)) stays so, for the program, too. */
static void signals_handle(const struct sigaction *action)
{
	struct sigaction before;

	for (size_t i = 0; i < sizeof(passed_on) / sizeof(passed_on[0]); i++)
		if (!sigaction(passed_on[i], NULL, &before) && before.sa_handler != SIG_IGN)
			sigaction(passed_on[i], action, NULL);
}

pid_t child_start(int (*run)(void *arg), void *arg)
{
	const struct sigaction passes = { .sa_sigaction = pass_on,
					  .sa_flags = SA_RESTART | SA_SIGINFO };
	const struct sigaction plain = { .sa_handler = SIG_DFL };
	pid_t pid;

	signals_handle(&passes);
	pid = fork();
	if (!pid) {
		signals_handle(&plain);
		_exit(run(arg));
	}
	if (pid > 0)
		child = pid;
	return pid;
}

int child_end_as(int status)
{
	struct rlimit none = { 0, 0 };
	sigset_t set;

	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	if (WTERMSIG(status) == SIGBUS)
		fprintf(stderr,
			"umm run: the program ended by SIGBUS: so ends who touches a page that "
			"was lost with its device\n");
	setrlimit(RLIMIT_CORE, &none);
	signal(WTERMSIG(status), SIG_DFL);
	sigemptyset(&set);
	sigaddset(&set, WTERMSIG(status));
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	raise(WTERMSIG(status));
	return 128 + WTERMSIG(status);
}
