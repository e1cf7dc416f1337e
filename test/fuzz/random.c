/*-------------------------------------------------------------------------
 *
 * random.c
 *	  Random numbers that are the same everywhere, and buffers.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include "fuzz.h"

/* ---- random numbers: splitmix64, the same everywhere ---- */

uint64
random_next(Random *random)
{
	uint64		z = (random->state += UINT64CONST(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

uint32
random_below(Random *random, uint32 n)
{
	return n == 0 ? 0 : random_next(random) % n;
}

/* ---- buffers ---- */

void
buffer_append(FuzzBuffer *buffer, const char *data, Size len)
{
	if (buffer->len + len + 1 > buffer->size)
	{
		buffer->size = 2 * (buffer->len + len + 1);
		buffer->data = realloc(buffer->data, buffer->size);
	}
	if (len > 0)
		memcpy(buffer->data + buffer->len, data, len);
	buffer->len += len;
	buffer->data[buffer->len] = '\0';
}

void
buffer_string(FuzzBuffer *buffer, const char *s)
{
	buffer_append(buffer, s, strlen(s));
}
