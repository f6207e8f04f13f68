/* SPDX-License-Identifier: MIT */
/* Devices that were looked for lately, and were there. */
#ifndef CHECKED_H
#define CHECKED_H

#include <stdbool.h>

/* @device as the user calls it. */
bool checked_lately(const char *device);
/* It is there. */
void checked_note(const char *device);

#endif
