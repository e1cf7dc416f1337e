/*-------------------------------------------------------------------------
 *
 * connect.c
 *	  Which brokers a handle may connect to: streamproc.allowed_brokers.
 *
 * What the option "brokers" says is checked when a configuration is built.
 * But the cluster's metadata name the brokers that are really used, and may
 * name any: so the library asks us before it resolves a name, and again
 * before it connects to an address.
 *
 * Resolving: a name that is not allowed as it is written is looked up only if
 * the list has networks, and of its addresses only those in them remain.
 * Connecting: name and address are looked at once more; what was checked
 * is what is connected to, there is nothing between the two.
 *
 * Threads: the callbacks run on the library's threads.  They use the handle's
 * own copy of the list, which does not change, leave a note under a lock of
 * the handle, and write a byte into its pipe.  Nothing of PostgreSQL.  The
 * library holds a lock of its broker around the connect callback, so that one
 * must not wait: the socket is non-blocking.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/base.h"
#include "kafka/kafka_int.h"

/* The library tries again at least so often unless it was told otherwise. */
#define REFUSED_FRESH_US	3000000

/* An element of the list that the resolve callback returns: one block of memory. */
typedef struct Resolved
{
	struct addrinfo info;
	struct sockaddr_storage address;
} Resolved;

void
kafka_refusal_text(char *into, Size size, const char *host)
{
	snprintf(into, size, "broker \"%s\" is not allowed by streamproc.allowed_brokers", host);
}

static void
note_refusal(KafkaHandle *handle, const char *host, int port)
{
	char		text[sizeof(handle->refused)];

	snprintf(text, sizeof(text), host_needs_brackets(host) ? "[%.255s]:%d" : "%.255s:%d", host, port);
	pthread_mutex_lock(&handle->refused_lock);
	memcpy(handle->refused, text, sizeof(text));
	handle->refused_us = monotonic_us();
	pthread_mutex_unlock(&handle->refused_lock);

	/* a full pipe wakes as well */
	if (write(handle->write_fd, "r", 1) < 0)
		Assert(errno == EAGAIN);
}

/* The addresses of "found" that are allowed (all: whatever they are); NULL where none is. */
static struct addrinfo *
allowed_addresses(KafkaHandle *handle, const struct addrinfo *found, bool all)
{
	Resolved   *result;
	int			n = 0;

	for (const struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next)
		n++;
	result = calloc(n, sizeof(Resolved));
	if (result == NULL)
		return NULL;
	n = 0;
	for (const struct addrinfo *ai = found; ai != NULL; ai = ai->ai_next)
	{
		Resolved   *r = &result[n];

		if (ai->ai_addrlen > sizeof(r->address) || (!all && !host_list_allows_address(handle->allowed, ai->ai_addr)))
			continue;
		memcpy(&r->address, ai->ai_addr, ai->ai_addrlen);
		r->info = *ai;
		r->info.ai_addr = (struct sockaddr *) &r->address;
		r->info.ai_canonname = NULL;
		r->info.ai_next = NULL;
		if (n > 0)
			result[n - 1].info.ai_next = &r->info;
		n++;
	}
	if (n > 0)
		return &result[0].info;
	free(result);
	return NULL;
}

/* In the place of getaddrinfo(); without a node, in that of freeaddrinfo(). */
static int
resolve_callback(const char *node, const char *service, const struct addrinfo *hints,
				 struct addrinfo **res, void *opaque)
{
	KafkaHandle *handle = opaque;
	struct addrinfo *found = NULL;
	bool		by_name;
	int			port;
	int			rc;

	if (node == NULL)
	{
		free(*res);				/* the first element is the block */
		return 0;
	}
	port = service ? atoi(service) : 0;
	by_name = host_list_allows_host(handle->allowed, node, port);
	if (!by_name && !host_list_has_networks(handle->allowed))
	{
		note_refusal(handle, node, port);
		return EAI_FAIL;
	}
	rc = getaddrinfo(node, service, hints, &found);
	if (rc != 0)
		return rc;
	*res = allowed_addresses(handle, found, by_name);
	freeaddrinfo(found);
	if (*res == NULL)
	{
		note_refusal(handle, node, port);
		return EAI_FAIL;
	}
	return 0;
}

/*
 * In the place of connect().  "id" is host:port as configured or as the
 * cluster's metadata say it, an IPv6 address with or without brackets.
 */
static int
connect_callback(int sockfd, const struct sockaddr *address, int address_len, const char *id, void *opaque)
{
	KafkaHandle *handle = opaque;
	const char *colon = strrchr(id, ':');
	char		host[HOST_NAME_MAX_LEN + 1];
	size_t		len = colon ? (size_t) (colon - id) : strlen(id);
	int			port = 0;

	if (address->sa_family == AF_INET)
		port = ntohs(((const struct sockaddr_in *) (const void *) address)->sin_port);
	else if (address->sa_family == AF_INET6)
		port = ntohs(((const struct sockaddr_in6 *) (const void *) address)->sin6_port);
	if (len >= 2 && id[0] == '[' && id[len - 1] == ']')
	{
		id++;
		len -= 2;
	}
	/* a name longer than names are is none of the list's */
	len = Min(len, sizeof(host) - 1);
	memcpy(host, id, len);
	host[len] = '\0';

	if (!host_list_allows_host(handle->allowed, host, port) &&
		!host_list_allows_address(handle->allowed, address))
	{
		note_refusal(handle, host, port);
		return EACCES;
	}
	if (connect(sockfd, address, (socklen_t) address_len) == 0 || errno == EINPROGRESS)
		return 0;
	return errno;
}

bool
kafka_handle_guard(KafkaHandle *handle, const KafkaConf *conf, rd_kafka_conf_t *rdconf)
{
	char		error[512];

	handle->retry_us = REFUSED_FRESH_US;
	for (int i = 0; i < conf->nprops; i++)
		if (strcmp(conf->names[i], "reconnect.backoff.max.ms") == 0)
			handle->retry_us = Max(handle->retry_us, (int64) atoi(conf->values[i]) * 2000);

	handle->allowed = host_list_parse(conf->allowed_brokers, error, sizeof(error));
	if (handle->allowed == NULL)
		return false;
	if (host_list_allows_all(handle->allowed))
		return true;
	rd_kafka_conf_set_resolve_cb(rdconf, resolve_callback);
	rd_kafka_conf_set_connect_cb(rdconf, connect_callback);
	return true;
}

bool
kafka_handle_refused(KafkaHandle *handle)
{
	int64		when;

	pthread_mutex_lock(&handle->refused_lock);
	when = handle->refused_us;
	pthread_mutex_unlock(&handle->refused_lock);
	return when != 0 && monotonic_us() - when < handle->retry_us;
}

void
kafka_handle_explain(KafkaHandle *handle, const char *otherwise, KafkaError *err)
{
	if (kafka_handle_refused(handle))
	{
		char		refused[sizeof(handle->refused)];

		pthread_mutex_lock(&handle->refused_lock);
		memcpy(refused, handle->refused, sizeof(refused));
		pthread_mutex_unlock(&handle->refused_lock);
		err->failure = KAFKA_NOT_ALLOWED;
		kafka_refusal_text(err->message, sizeof(err->message), refused);
		return;
	}
	err->failure = handle->reason[0] ? handle->reason_kind : KAFKA_UNREACHABLE;
	strlcpy(err->message, handle->reason[0] ? handle->reason : otherwise, sizeof(err->message));
}
