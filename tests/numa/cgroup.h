/* SPDX-License-Identifier: MIT */
/* A control group of the test's own, with this process in it. */
#ifndef NUMA_CGROUP_H
#define NUMA_CGROUP_H

#include <stdbool.h>
#include <stddef.h>

struct cgroup {
	char dir[192];	/* of the group */
	char home[192]; /* of the one that the process comes from */
	bool unified;
};

/*
 * A group with a controller, "memory" or "cpuset". False: that takes root, or a control group
 * hierarchy to be written to.
 */
bool cgroup_create(struct cgroup *group, const char *controller);

/* Another one inside of it. */
bool cgroup_create_inside(const struct cgroup *outer, const char *controller, struct cgroup *group);

/* Write to a file of the group. */
bool cgroup_write(const struct cgroup *group, const char *file, const char *text);

bool cgroup_enter(const struct cgroup *group);

/* Back where it came from; the group is gone. */
void cgroup_leave(const struct cgroup *group);

#endif
