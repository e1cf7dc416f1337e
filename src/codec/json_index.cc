/*-------------------------------------------------------------------------
 *
 * json_index.cc
 *	  simdjson behind a C interface: the SIMD pass that on-demand parsing
 *	  rests on (strings, tokens, UTF-8), run by the best implementation for
 *	  the present CPU.
 *
 * What on-demand's own iterator does after this pass is done by json_decode.c
 * instead: it is inlined code compiled for the build's CPU, it does not check
 * what it passes over, and a document must be accepted or refused alike
 * whatever columns a query needs.
 *
 * Memory here is not PostgreSQL's: the decoder frees it by a callback of its
 * memory context.
 *
 *-------------------------------------------------------------------------
 */
#define SIMDJSON_EXCEPTIONS 0
#include <simdjson.h>

#include <new>

#include "codec/json_index.h"

static_assert(JSON_INDEX_PADDING >= simdjson::SIMDJSON_PADDING, "padding");

struct JsonIndexer
{
	std::unique_ptr<simdjson::internal::dom_parser_implementation> parser;
	size_t		capacity = 0;
};

/* stage 2 is never run, so there is no nesting to keep room for */
#define INDEX_DEPTH 4
#define INDEX_FIRST_CAPACITY 8192

extern "C" JsonIndexer *
json_indexer_create(void)
{
	JsonIndexer *indexer = new (std::nothrow) JsonIndexer;

	if (indexer == nullptr)
		return nullptr;
	if (simdjson::get_active_implementation()->create_dom_parser_implementation(
			INDEX_FIRST_CAPACITY, INDEX_DEPTH, indexer->parser) != simdjson::SUCCESS)
	{
		delete indexer;
		return nullptr;
	}
	indexer->capacity = INDEX_FIRST_CAPACITY;
	return indexer;
}

extern "C" void
json_indexer_destroy(JsonIndexer *indexer)
{
	delete indexer;
}

extern "C" JsonIndexStatus
json_indexer_run(JsonIndexer *indexer, const uint8_t *data, size_t len,
				 const uint32_t **positions, uint32_t *npositions)
{
	simdjson::error_code error;
	uint32_t   *index;
	uint32_t	n;

	if (len == 0)
		return JSON_INDEX_EMPTY;
	if (len > indexer->capacity)
	{
		size_t		wanted = INDEX_FIRST_CAPACITY;

		while (wanted < len)
			wanted *= 2;
		/* a failure leaves the parser without its index: remember that */
		indexer->capacity = 0;
		if (indexer->parser->set_capacity(wanted) != simdjson::SUCCESS)
			return JSON_INDEX_MEMORY;
		indexer->capacity = wanted;
	}
	error = indexer->parser->stage1(data, len, simdjson::stage1_mode::regular);
	switch (error)
	{
		case simdjson::SUCCESS:
			break;
		case simdjson::EMPTY:
			return JSON_INDEX_EMPTY;
		case simdjson::UTF8_ERROR:
			return JSON_INDEX_UTF8;
		case simdjson::UNCLOSED_STRING:
			return JSON_INDEX_UNCLOSED;
		case simdjson::UNESCAPED_CHARS:
			return JSON_INDEX_CONTROL;
		case simdjson::MEMALLOC:
		case simdjson::CAPACITY:
			return JSON_INDEX_MEMORY;
		default:
			return JSON_INDEX_OTHER;
	}
	/* the library keeps room for three sentinels */
	n = indexer->parser->n_structural_indexes;
	index = indexer->parser->structural_indexes.get();
	index[n] = static_cast<uint32_t>(len);
	index[n + 1] = static_cast<uint32_t>(len);
	*positions = index;
	*npositions = n;
	return JSON_INDEX_OK;
}

extern "C" bool
json_utf8_valid(const char *data, size_t len)
{
	return simdjson::validate_utf8(data, len);
}
