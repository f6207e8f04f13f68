/* SPDX-License-Identifier: MIT */
/* Tools under which the threads of a program take turns. */
#ifndef TURNS_H
#define TURNS_H

/* NULL, or which one this process runs under. No malloc. */
const char *turns_given_by(void);

#endif
