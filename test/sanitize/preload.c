/*-------------------------------------------------------------------------
 *
 * preload.c
 *	  Preloaded with AddressSanitizer's library.
 *
 * That begins when somebody allocates memory for the first time: in a server of
 * Debian a constructor of libp11-kit, inside newlocale(), which holds a lock.
 * If it did not find this function, of another language, it would ask dlerror()
 * why, whose text is to be translated: under the same lock, for ever.
 *
 *-------------------------------------------------------------------------
 */
#include <stddef.h>

char	   *swift_demangle(const char *name, size_t len, char *into, size_t *into_len, unsigned flags);

char *
swift_demangle(const char *name, size_t len, char *into, size_t *into_len, unsigned flags)
{
	return NULL;
}
