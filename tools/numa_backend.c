/* SPDX-License-Identifier: MIT */
/*
 * Asks the NUMA backend what it can do with each node, without depending on it: libumm_numa is
 * loaded at run time. It is looked for beside libumm, where both are installed, and in the
 * folder below it, where it is built; then wherever the dynamic loader looks. No locks.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <umm_numa.h>

#include "numa.h"

struct asked {
	struct numa_node *nodes;
	int nnodes;
};

static int node_tell(void *priv, const struct umm_numa_info *info)
{
	const struct asked *asked = priv;

	for (int i = 0; i < asked->nnodes; i++) {
		struct numa_node *node = &asked->nodes[i];

		if ((int)node->id != info->node)
			continue;
		node->judged = true;
		node->usable = info->usable;
		node->rank = info->rank;
		node->bandwidth = info->read_bandwidth;
		node->latency = info->read_latency;
		snprintf(node->reason, sizeof(node->reason), "%s", info->reason);
		snprintf(node->near, sizeof(node->near), "%s", info->cpus);
	}
	return 0;
}

/* Where the backend is, for dlopen(). */
static const char *backend_find(char *path, size_t path_len)
{
	static const char *const places[] = { "", "backends/numa/" };
	const char *end;
	Dl_info umm;

	if (!dladdr((void *)umm_version, &umm) || !umm.dli_fname)
		return UMM_NUMA_SONAME;
	end = strrchr(umm.dli_fname, '/');
	for (size_t i = 0; end && i < sizeof(places) / sizeof(places[0]); i++) {
		snprintf(path, path_len, "%.*s/%s%s", (int)(end - umm.dli_fname), umm.dli_fname,
			 places[i], UMM_NUMA_SONAME);
		if (!access(path, F_OK))
			return path;
	}
	return UMM_NUMA_SONAME;
}

/* A node that may not be used is no news here: it is printed with its reason. */
static void log_nothing(void *priv, enum umm_log_level level, const char *line)
{
	(void)priv;
	(void)level;
	(void)line;
}

void numa_judge(struct numa_node *nodes, int nnodes, char *advice, size_t advice_len)
{
	struct asked asked = { nodes, nnodes };
	__typeof__(umm_numa_list) *list;
	char path[PATH_MAX];
	void *backend;
	int ret;

	advice[0] = '\0';
	backend = dlopen(backend_find(path, sizeof(path)), RTLD_NOW | RTLD_LOCAL);
	list = backend ? (__typeof__(list))dlsym(backend, "umm_numa_list") : NULL;
	if (!list) {
		snprintf(advice, advice_len,
			 "The NUMA backend is missing: install " UMM_NUMA_SONAME
			 ", which building libumm with -DUMM_NUMA=ON gives, beside libumm.");
		return;
	}
	umm_log_set(log_nothing, NULL, UMM_LOG_NONE);
	ret = list(node_tell, &asked);
	umm_log_set(NULL, NULL, UMM_LOG_WARNING);
	if (ret < 0)
		snprintf(advice, advice_len,
			 "Nodes cannot be devices: %s. On Debian 'apt-get install libnuma1' gives "
			 "what the NUMA backend needs.",
			 umm_strerror(ret));
}
