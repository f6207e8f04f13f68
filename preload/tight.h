/* SPDX-License-Identifier: MIT */
/* Is there address space for what managed memory takes besides the program's own? */
#ifndef TIGHT_H
#define TIGHT_H

#include <stdbool.h>

#include "settings.h"

/* False: @why says in one line what is too low. */
bool tight_is_enough(const struct settings *settings, char why[SETTINGS_ERROR_LEN]);

#endif
