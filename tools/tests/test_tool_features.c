/* SPDX-License-Identifier: MIT */
/* Rungs and remedies, on kernels and with permissions that this machine need not have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "info.h"

#define REQUIRED ((uint64_t)UMM_KERNEL_UFFD_WP | UMM_KERNEL_UFFD_EVENTS)

static struct info info;

static void machine(unsigned major, unsigned minor, enum umm_uffd_access access, uint64_t features)
{
	memset(&info, 0, sizeof(info));
	info.kernel_major = major;
	info.kernel_minor = minor;
	info.probe.uffd_access = access;
	info.probe.kernel_features = features;
}

static const struct info_feature *feature(enum umm_kernel_feature bit)
{
	for (size_t i = 0; i < info_nfeatures; i++)
		if (info_features[i].bit == bit)
			return &info_features[i];
	fail_msg("no row for feature %#x", (unsigned)bit);
	return NULL;
}

static void check(enum umm_kernel_feature bit, enum info_rung rung, const char *remedy)
{
	char text[128];

	assert_int_equal(info_rung(&info, feature(bit)), rung);
	if (remedy)
		assert_string_equal(info_remedy(&info, feature(bit), text, sizeof(text)), remedy);
}

static void every_feature_of_the_header_has_a_row(void **state)
{
	(void)state;
	for (unsigned bit = UMM_KERNEL_MOVE; bit <= UMM_KERNEL_SYSCALL_FAULTS; bit <<= 1)
		assert_non_null(feature((enum umm_kernel_feature)bit));
	assert_int_equal(info_nfeatures, 7);
}

static void old_kernel_falls_back_and_names_the_newer_one(void **state)
{
	(void)state;
	machine(6, 1, UMM_UFFD_DEVICE, REQUIRED | UMM_KERNEL_SYSCALL_FAULTS);
	check(UMM_KERNEL_UFFD_WP, INFO_RUNG_BEST, NULL);
	check(UMM_KERNEL_SYSCALL_FAULTS, INFO_RUNG_BEST, NULL);
	check(UMM_KERNEL_MOVE, INFO_RUNG_FALLBACK, "Linux 6.8 or later");
	check(UMM_KERNEL_POISON, INFO_RUNG_FALLBACK, "Linux 6.6 or later");
	check(UMM_KERNEL_PAGEMAP_SCAN, INFO_RUNG_FALLBACK, "Linux 6.7 or later");
	check(UMM_KERNEL_PROCMAP_QUERY, INFO_RUNG_FALLBACK, "Linux 6.11 or later");
}

static void kernel_without_what_is_required_is_missing_it(void **state)
{
	(void)state;
	machine(5, 4, UMM_UFFD_SYSCALL, UMM_KERNEL_UFFD_EVENTS);
	check(UMM_KERNEL_UFFD_EVENTS, INFO_RUNG_BEST, NULL);
	check(UMM_KERNEL_UFFD_WP, INFO_RUNG_MISSING, "Linux 5.7 or later");
}

static void new_kernel_that_withholds_a_feature_is_not_told_to_be_newer(void **state)
{
	(void)state;
	machine(6, 11, UMM_UFFD_DEVICE, REQUIRED);
	check(UMM_KERNEL_PROCMAP_QUERY, INFO_RUNG_FALLBACK,
	      "Linux 6.11 has it; this kernel's configuration or a sandbox withholds it");
	machine(7, 0, UMM_UFFD_DEVICE, REQUIRED);
	check(UMM_KERNEL_MOVE, INFO_RUNG_FALLBACK,
	      "Linux 6.8 has it; this kernel's configuration or a sandbox withholds it");
}

static void without_userfaultfd_only_its_own_features_are_unknown(void **state)
{
	(void)state;
	machine(6, 18, UMM_UFFD_NONE, UMM_KERNEL_PAGEMAP_SCAN);
	check(UMM_KERNEL_MOVE, INFO_RUNG_UNKNOWN, NULL);
	check(UMM_KERNEL_UFFD_EVENTS, INFO_RUNG_UNKNOWN, NULL);
	check(UMM_KERNEL_SYSCALL_FAULTS, INFO_RUNG_UNKNOWN, NULL);
	check(UMM_KERNEL_PAGEMAP_SCAN, INFO_RUNG_BEST, NULL);
	check(UMM_KERNEL_PROCMAP_QUERY, INFO_RUNG_FALLBACK, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_feature_of_the_header_has_a_row),
		cmocka_unit_test(old_kernel_falls_back_and_names_the_newer_one),
		cmocka_unit_test(kernel_without_what_is_required_is_missing_it),
		cmocka_unit_test(new_kernel_that_withholds_a_feature_is_not_told_to_be_newer),
		cmocka_unit_test(without_userfaultfd_only_its_own_features_are_unknown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
