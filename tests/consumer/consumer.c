/* SPDX-License-Identifier: MIT */
/* Built against an installed libumm, outside its tree; run with the version it must find. */
#include <umm.h>

#include <string.h>

int main(int argc, char **argv)
{
	struct umm_probe_info info = { .size = sizeof(info) };
	struct umm_ctx *ctx;
	void *memory;
	int ret;

	if (argc != 2 || strcmp(argv[1], umm_version())) {
		printf("expected version %s, found %s\n", argc > 1 ? argv[1] : "?", umm_version());
		return 1;
	}
	ret = umm_probe(&info);
	if (ret) {
		printf("umm_probe: %s\n", umm_strerror(ret));
		return 1;
	}
	if (info.uffd_access == UMM_UFFD_NONE) {
		printf("SKIP: the memory half, %s\n", info.advice);
		return 0;
	}
	ret = umm_ctx_create(NULL, &ctx);
	if (ret) {
		printf("umm_ctx_create: %s\n", umm_strerror(ret));
		return 1;
	}
	ret = umm_alloc(ctx, 3 * UMM_PAGE_SIZE, 0, &memory);
	if (!ret) {
		memset(memory, 0x5a, 3 * UMM_PAGE_SIZE);
		ret = umm_free(ctx, memory);
	}
	umm_ctx_put(ctx);
	printf("libumm %s: %s\n", umm_version(), umm_strerror(ret));
	return ret != 0;
}
