/* SPDX-License-Identifier: MIT */
/* A program that is to be run: whether the dynamic loader will put the shim in front of it. */
#ifndef PROGRAM_H
#define PROGRAM_H

/* NULL, or why not, as the end of "NAME is ...". What cannot be looked at is left to exec(). */
const char *program_obstacle(const char *name);

#endif
