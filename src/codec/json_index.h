/*-------------------------------------------------------------------------
 *
 * json_index.h
 *	  C interface of the only C++ file: simdjson's SIMD pass over a document.
 *
 * Plain C types only, so that neither side sees the other's headers.  No
 * exception crosses: the library's error codes are used, and the file is
 * compiled without exceptions.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_JSON_INDEX_H
#define STREAMPROC_JSON_INDEX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C"
{
#endif

/* bytes that must be readable (any value) after a document */
#define JSON_INDEX_PADDING 64

typedef enum JsonIndexStatus
{
	JSON_INDEX_OK,
	JSON_INDEX_EMPTY,			/* nothing but white space */
	JSON_INDEX_UTF8,			/* not UTF-8 */
	JSON_INDEX_UNCLOSED,		/* a string does not end */
	JSON_INDEX_CONTROL,			/* a raw control character in a string */
	JSON_INDEX_MEMORY,
	JSON_INDEX_OTHER
} JsonIndexStatus;

typedef struct JsonIndexer JsonIndexer;

/* NULL: out of memory */
extern JsonIndexer *json_indexer_create(void);
extern void json_indexer_destroy(JsonIndexer *indexer);
/*
 * The positions where the tokens of the document begin: each of {}[]:, and
 * the first byte of each string, number and literal.  *positions lives until
 * the next run and has two further entries behind the last, both "len".
 */
extern JsonIndexStatus json_indexer_run(JsonIndexer *indexer, const uint8_t *data, size_t len,
										const uint32_t **positions, uint32_t *npositions);
extern bool json_utf8_valid(const char *data, size_t len);

#ifdef __cplusplus
}
#endif

#endif							/* STREAMPROC_JSON_INDEX_H */
