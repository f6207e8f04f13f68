/* SPDX-License-Identifier: MIT */
/* What kernel and permissions allow; umm_probe() itself is public. */
#ifndef PROBE_H
#define PROBE_H

#include "umm.h"

/*
 * Put the one thing most worth changing into info->advice ("" if all is well), judged
 * from the other members. Pure but for a look at this process's seccomp state.
 */
void probe_advise(struct umm_probe_info *info);

#endif
