/* SPDX-License-Identifier: MIT */
/* A thread that ends the program, with the stacks of all threads, when a test hangs. */
#ifndef WATCHDOG_H
#define WATCHDOG_H

/* 0 or a negative errno. */
int watchdog_start(void);

/* From here on this test runs; UMM_TEST_TIMEOUT says for how many seconds it may (60). */
void watchdog_arm(const char *test);
void watchdog_disarm(void);

/* This test may take so many seconds more. */
void watchdog_extend(unsigned seconds);

#endif
