/* SPDX-License-Identifier: MIT */
/* Filling in the sheet that the umm command asked for. The engine's thread only. */
#ifndef SURVEY_H
#define SURVEY_H

#include <umm.h>

#include "sheet.h"

/* If one is wanted. Costs a look at every page that the program has. */
void survey_answer(struct umm_ctx *ctx, struct sheet *sheet);

#endif
