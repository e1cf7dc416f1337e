/*-------------------------------------------------------------------------
 *
 * hostlist.h
 *	  Lists of host patterns: who may be connected to.
 *
 * Plain C on malloc'd memory: a parsed list may be read by threads that know
 * nothing of PostgreSQL.
 *
 *-------------------------------------------------------------------------
 */
#ifndef STREAMPROC_HOSTLIST_H
#define STREAMPROC_HOSTLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define HOST_NAME_MAX_LEN	255

typedef struct HostList HostList;

/*
 * Parses "text": patterns separated by commas, see README.md.  NULL with a
 * text in "error" when it is malformed or memory is exhausted.
 */
extern HostList *host_list_parse(const char *text, char *error, size_t error_size);
extern void host_list_free(HostList *list);

/* does the list allow everything? */
extern bool host_list_allows_all(const HostList *list);

/* are there patterns of addresses, so that a name may be allowed by what it resolves to? */
extern bool host_list_has_networks(const HostList *list);

/* is the host as it is written, name or address, allowed with this port? */
extern bool host_list_allows_host(const HostList *list, const char *host, int port);

/* is the address with its port allowed, whatever name it had? */
extern bool host_list_allows_address(const HostList *list, const struct sockaddr *address);

/*
 * Splits "host", "host:port", "::1" or "[::1]:port" and checks the parts.
 * "host" has room for HOST_NAME_MAX_LEN + 1; port 0: none given.  NULL, or what
 * is wrong with it.
 */
extern const char *host_split(const char *text, char *host, int *port);

/* an IPv4 or IPv6 address in its usual form */
extern bool host_is_address(const char *host);

/* does "host" contain an IPv6 address, so that it needs brackets before a port? */
extern bool host_needs_brackets(const char *host);

#endif							/* STREAMPROC_HOSTLIST_H */
