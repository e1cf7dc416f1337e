/*-------------------------------------------------------------------------
 *
 * hostlist.c
 *	  Lists of host patterns.
 *
 * A pattern is a name, a name with a wildcard for whole labels in front, an
 * address or a network, or "*"; each with or without a port.  Names are
 * compared as they are written, addresses as numbers.  An IPv4 address in
 * IPv6 clothes (::ffff:10.0.0.1) is the IPv4 address.
 *
 * No PostgreSQL in here but its types: librdkafka's threads ask this list.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

#include "base/hostlist.h"

typedef enum HostKind
{
	HOST_ANY,
	HOST_NAME,					/* this name */
	HOST_SUFFIX,				/* names that end in it, with something before it */
	HOST_NETWORK
} HostKind;

/* An address as a number: 4 or 16 bytes. */
typedef struct HostAddress
{
	int			len;
	unsigned char bytes[16];
} HostAddress;

typedef struct HostPattern
{
	HostKind	kind;
	int			port;			/* 0: any */
	char		name[HOST_NAME_MAX_LEN + 1];	/* lower case; of a suffix with its dot */
	HostAddress address;
	int			bits;
} HostPattern;

struct HostList
{
	bool		all;
	bool		networks;
	int			n;
	HostPattern patterns[FLEXIBLE_ARRAY_MEMBER];
};

/* ---- addresses ---- */

static void
address_from_bytes(HostAddress *address, const void *bytes, int len)
{
	static const unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

	if (len == 16 && memcmp(bytes, mapped, sizeof(mapped)) == 0)
	{
		bytes = (const char *) bytes + 12;
		len = 4;
	}
	address->len = len;
	memcpy(address->bytes, bytes, len);
}

static bool
address_from_text(HostAddress *address, const char *text)
{
	unsigned char bytes[16];

	if (inet_pton(AF_INET, text, bytes) == 1)
		address_from_bytes(address, bytes, 4);
	else if (inet_pton(AF_INET6, text, bytes) == 1)
		address_from_bytes(address, bytes, 16);
	else
		return false;
	return true;
}

/* Are the first "bits" bits the same? */
static bool
network_contains(const HostAddress *network, int bits, const HostAddress *address)
{
	int			rest = bits % 8;
	unsigned char mask = (unsigned char) (0xff00 >> rest);

	if (network->len != address->len || memcmp(network->bytes, address->bytes, bits / 8) != 0)
		return false;
	return rest == 0 || (network->bytes[bits / 8] & mask) == (address->bytes[bits / 8] & mask);
}

/* ---- names ---- */

/*
 * Labels of letters, digits, "-" and "_", the last one not a number: that
 * would be an address, perhaps one of those odd forms that resolvers take
 * (127.1, 0x7f000001).  May end with a dot.
 */
static bool
name_is_valid(const char *name)
{
	size_t		len = strlen(name);
	const char *last;

	if (len > 0 && name[len - 1] == '.')
		len--;
	if (len == 0 || len > 253 || name[0] == '.' || name[0] == '-' || name[len - 1] == '.' || strstr(name, "..") != NULL)
		return false;
	if (strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.") < len)
		return false;
	last = name + len;
	while (last > name && last[-1] != '.')
		last--;
	return !(last[0] >= '0' && last[0] <= '9' &&
			 (strspn(last, "0123456789") >= (size_t) (name + len - last) || last[1] == 'x' || last[1] == 'X'));
}

/* Lower case, without the dot at the end; never longer than its source. */
static void
name_normalize(char *into, const char *name)
{
	size_t		len = strlen(name);

	if (len > 1 && name[len - 1] == '.')
		len--;
	for (size_t i = 0; i < len; i++)
		into[i] = (name[i] >= 'A' && name[i] <= 'Z') ? name[i] - 'A' + 'a' : name[i];
	into[len] = '\0';
}

/* ---- host and port ---- */

bool
host_needs_brackets(const char *host)
{
	return strchr(host, ':') != NULL;
}

bool
host_is_address(const char *host)
{
	HostAddress address;

	return address_from_text(&address, host);
}

/* "9092" into a number; false where it is no port */
static bool
port_from_text(const char *text, int *port)
{
	size_t		len = strlen(text);

	if (len == 0 || len > 5 || strspn(text, "0123456789") != len)
		return false;
	*port = atoi(text);
	return *port >= 1 && *port <= 65535;
}

/*
 * Takes brackets and port off.  "host" is then whatever stood there, of at
 * most HOST_NAME_MAX_LEN bytes.
 */
static const char *
split(const char *text, char *host, int *port)
{
	const char *end = text + strlen(text);
	const char *colon = strchr(text, ':');
	const char *port_text = NULL;

	*port = 0;
	if (text[0] == '[')
	{
		const char *close = strchr(text, ']');

		if (close == NULL)
			return "a bracket is not closed";
		if (close[1] == ':')
			port_text = close + 2;
		else if (close[1] != '\0')
			return "something other than a port follows the bracket";
		text++;
		end = close;
		/* brackets are for what has colons */
		if (memchr(text, ':', end - text) == NULL)
			return "there is no IPv6 address in the brackets";
	}
	else if (colon != NULL && strchr(colon + 1, ':') == NULL)
	{
		port_text = colon + 1;
		end = colon;
	}
	if (end == text)
		return "the host is missing";
	if (end - text > HOST_NAME_MAX_LEN)
		return "the host name is too long";
	memcpy(host, text, end - text);
	host[end - text] = '\0';
	if (port_text != NULL && !port_from_text(port_text, port))
		return "the port is not a number from 1 to 65535";
	return NULL;
}

const char *
host_split(const char *text, char *host, int *port)
{
	const char *error = split(text, host, port);

	if (error != NULL)
		return error;
	if (!host_is_address(host) && !name_is_valid(host))
		return "it is neither a host name nor an address";
	return NULL;
}

/* ---- patterns ---- */

static const char *
parse_network(HostPattern *pattern, const char *host)
{
	const char *slash = strchr(host, '/');
	char		text[HOST_NAME_MAX_LEN + 1];
	HostAddress first;
	int			len = slash ? (int) (slash - host) : (int) strlen(host);
	int			given_len;
	int			bits;

	memcpy(text, host, len);
	text[len] = '\0';
	if (!address_from_text(&pattern->address, text))
		return "it is neither a host name nor an address";
	given_len = strchr(text, ':') ? 16 : 4;
	bits = given_len * 8;
	if (slash != NULL)
	{
		size_t		digits = strspn(slash + 1, "0123456789");

		if (digits == 0 || digits > 3 || slash[1 + digits] != '\0' || atoi(slash + 1) > bits)
			return "the length of the network's prefix is wrong";
		bits = atoi(slash + 1);
	}
	/* ::ffff:10.0.0.0/104 is 10.0.0.0/8 */
	bits -= (given_len - pattern->address.len) * 8;
	if (bits < 0)
		return "the network mixes IPv4 and IPv6 addresses";
	first = pattern->address;
	for (int i = bits; i < first.len * 8; i++)
		first.bytes[i / 8] &= (unsigned char) ~(0x80 >> (i % 8));
	if (memcmp(first.bytes, pattern->address.bytes, first.len) != 0)
		return "the address has bits set to the right of the network's prefix";
	pattern->kind = HOST_NETWORK;
	pattern->bits = bits;
	return NULL;
}

static const char *
parse_pattern(HostPattern *pattern, const char *text)
{
	char		host[HOST_NAME_MAX_LEN + 1];
	const char *error = split(text, host, &pattern->port);

	if (error != NULL)
		return error;
	if (strcmp(host, "*") == 0)
	{
		pattern->kind = HOST_ANY;
		return NULL;
	}
	if (strncmp(host, "*.", 2) == 0 && name_is_valid(host + 2))
	{
		pattern->kind = HOST_SUFFIX;
		name_normalize(pattern->name, host + 1);
		return NULL;
	}
	if (strchr(host, '*') != NULL)
		return "a wildcard stands for everything, or for the first labels of a name: *.example.com";
	if (name_is_valid(host))
	{
		pattern->kind = HOST_NAME;
		name_normalize(pattern->name, host);
		return NULL;
	}
	return parse_network(pattern, host);
}

HostList *
host_list_parse(const char *text, char *error, size_t error_size)
{
	const char *space = " \t\r\n";
	HostList   *list;
	size_t		max = 1;

	for (const char *p = text; *p; p++)
		max += (*p == ',');
	list = calloc(1, offsetof(HostList, patterns) + max * sizeof(HostPattern));
	if (list == NULL)
	{
		snprintf(error, error_size, "out of memory");
		return NULL;
	}
	/* nothing at all is a list of nothing */
	if (text[strspn(text, space)] == '\0')
		return list;

	for (;;)
	{
		HostPattern *pattern = &list->patterns[list->n];
		const char *next = text + strcspn(text, ",");
		char		item[HOST_NAME_MAX_LEN + 16];
		const char *problem = NULL;
		size_t		len;

		text += strspn(text, space);
		len = next > text ? next - text : 0;
		while (len > 0 && strchr(space, text[len - 1]) != NULL)
			len--;
		if (len >= sizeof(item))
		{
			len = sizeof(item) - 1;
			problem = "the host name is too long";
		}
		memcpy(item, text, len);
		item[len] = '\0';
		if (problem == NULL && len == 0)
			problem = "a pattern is missing";
		if (problem == NULL)
			problem = parse_pattern(pattern, item);
		if (problem != NULL)
		{
			snprintf(error, error_size, "\"%s\": %s", item, problem);
			free(list);
			return NULL;
		}
		list->n++;
		if (pattern->kind == HOST_ANY && pattern->port == 0)
			list->all = true;
		if (pattern->kind == HOST_NETWORK)
			list->networks = true;
		if (*next == '\0')
			return list;
		text = next + 1;
	}
}

void
host_list_free(HostList *list)
{
	free(list);
}

/* ---- questions ---- */

bool
host_list_allows_all(const HostList *list)
{
	return list->all;
}

bool
host_list_has_networks(const HostList *list)
{
	return list->networks;
}

static bool
allows(const HostList *list, const char *name, const HostAddress *address, int port)
{
	size_t		len = name ? strlen(name) : 0;

	for (int i = 0; i < list->n; i++)
	{
		const HostPattern *pattern = &list->patterns[i];
		size_t		suffix_len;

		if (pattern->port != 0 && pattern->port != port)
			continue;
		switch (pattern->kind)
		{
			case HOST_ANY:
				return true;
			case HOST_NAME:
				if (name != NULL && strcmp(pattern->name, name) == 0)
					return true;
				break;
			case HOST_SUFFIX:
				suffix_len = strlen(pattern->name);
				if (name != NULL && len > suffix_len && strcmp(name + len - suffix_len, pattern->name) == 0)
					return true;
				break;
			case HOST_NETWORK:
				if (address != NULL && network_contains(&pattern->address, pattern->bits, address))
					return true;
				break;
		}
	}
	return false;
}

bool
host_list_allows_host(const HostList *list, const char *host, int port)
{
	HostAddress address;
	char		name[HOST_NAME_MAX_LEN + 1];

	if (address_from_text(&address, host))
		return allows(list, NULL, &address, port);
	if (strlen(host) > HOST_NAME_MAX_LEN)
		return false;
	name_normalize(name, host);
	return allows(list, name, NULL, port);
}

bool
host_list_allows_address(const HostList *list, const struct sockaddr *address)
{
	HostAddress number;

	if (address->sa_family == AF_INET)
	{
		const struct sockaddr_in *in = (const struct sockaddr_in *) (const void *) address;

		address_from_bytes(&number, &in->sin_addr, 4);
		return allows(list, NULL, &number, ntohs(in->sin_port));
	}
	if (address->sa_family == AF_INET6)
	{
		const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *) (const void *) address;

		address_from_bytes(&number, &in6->sin6_addr, 16);
		return allows(list, NULL, &number, ntohs(in6->sin6_port));
	}
	return false;
}
