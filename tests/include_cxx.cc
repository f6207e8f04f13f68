/* SPDX-License-Identifier: MIT */
/*
 * umm.h is the only header here, and this file is compiled as C++: the header's
 * declarations must be valid there and have C linkage.
 */
#include "umm.h"

static const umm_ctx_options options = { sizeof(options),
					 0,
					 0,
					 0,
					 0,
					 0,
					 0,
					 UMM_READAHEAD_DEFAULT,
					 0,
					 0,
					 UMM_THRASH_DEFAULT,
					 0,
					 0,
					 0,
					 0,
					 nullptr,
					 nullptr,
					 nullptr,
					 nullptr,
					 UMM_EVICT_DEFAULT };

int main()
{
	umm_ctx_put(nullptr);
	if (umm_page_size() == UMM_PAGE_SIZE && options.size >= sizeof(size_t))
		return 0;
	printf("umm_page_size() is %zu, UMM_PAGE_SIZE %zu\n", umm_page_size(), UMM_PAGE_SIZE);
	return 1;
}
