/* SPDX-License-Identifier: MIT */
/*
 * WordNet's tables (Debian: wordnet-base), for examples that want real data. A meaning is
 * named by a key: its part of speech and where it is in its file. Without the files the
 * program exits with 77.
 */
#ifndef WORDS_H
#define WORDS_H

#include <stdint.h>

/* Every meaning, keys ascending, with the number of the lexicographer's file that it is from. */
void words_meanings(void (*fn)(void *priv, uint32_t key, uint32_t file), void *priv);

/* Every pointer from a meaning to another: more general, part of, opposite, ... */
void words_pointers(void (*fn)(void *priv, uint32_t from, uint32_t to), void *priv);

/* Every meaning of every word. */
void words_senses(void (*fn)(void *priv, uint32_t key), void *priv);

#define WORDS_MOST_MEANINGS (1 << 17)
#define WORDS_MOST_POINTERS (1 << 19)
#define WORDS_MOST_SENSES   (1 << 18)
#define WORDS_FILES	    64

#endif
