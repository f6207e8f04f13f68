/* SPDX-License-Identifier: MIT */
/* Wrapping at 80 columns, and sizes for people. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text.h"

#define TEN "123456789 "

static void check_item(const char *label, const char *value, const char *wanted)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	assert_non_null(out);
	text_item(out, label, "%s", value);
	assert_int_equal(fclose(out), 0);
	assert_string_equal(text, wanted);
	free(text);
}

static void short_values_stay_on_their_line(void **state)
{
	(void)state;
	check_item("host", "4 GiB", "  host                  4 GiB\n");
	check_item("", "more", "                        more\n");
	check_item("move", "no   because", "  move                  no   because\n");
}

static void values_wrap_before_column_80_and_continue_below_themselves(void **state)
{
	(void)state;
	check_item("l", TEN TEN TEN TEN TEN "12345 next",
		   "  l                     " TEN TEN TEN TEN TEN "12345\n"
		   "                        next\n");
	/* The last of 80 columns may be used. */
	check_item("l", TEN TEN TEN TEN TEN "123456 next",
		   "  l                     " TEN TEN TEN TEN TEN "123456\n"
		   "                        next\n");
	check_item("l", TEN TEN TEN TEN TEN "1234567",
		   "  l                     " TEN TEN TEN TEN "123456789\n"
		   "                        1234567\n");
}

static void wide_words_are_not_cut(void **state)
{
	char word[101], wanted[256];

	(void)state;
	memset(word, 'x', 100);
	word[100] = '\0';
	snprintf(wanted, sizeof(wanted), "  l                     %s\n", word);
	check_item("l", word, wanted);
}

static void columns_are_characters(void **state)
{
	(void)state;
	check_item("\xc3\xa9", "4", "  \xc3\xa9                     4\n");
}

static void check_size(uint64_t bytes, const char *wanted)
{
	char text[TEXT_SIZE];

	text_size(bytes, text);
	assert_string_equal(text, wanted);
}

static void sizes_have_two_digits_where_that_helps(void **state)
{
	(void)state;
	check_size(0, "0 B");
	check_size(1023, "1023 B");
	check_size(1024, "1.0 KiB");
	check_size(4657995776, "4.3 GiB");
	check_size(UINT64_C(10) << 30, "10 GiB");
	check_size((UINT64_C(1) << 30) - 1, "1.0 GiB");
	check_size(UINT64_MAX, "16 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(short_values_stay_on_their_line),
		cmocka_unit_test(values_wrap_before_column_80_and_continue_below_themselves),
		cmocka_unit_test(wide_words_are_not_cut),
		cmocka_unit_test(columns_are_characters),
		cmocka_unit_test(sizes_have_two_digits_where_that_helps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
