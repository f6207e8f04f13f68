/* SPDX-License-Identifier: MIT */
/* Text that people read, and that quotes what others have written: values of the environment. */
#ifndef TEXT_H
#define TEXT_H

/* What would end the line, or speak to the terminal, becomes '?'. */
static inline void text_clean(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 0x7f)
			*text = '?';
}

#endif
