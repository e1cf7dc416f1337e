/*-------------------------------------------------------------------------
 *
 * driver.c
 *	  An engine for the harness where there is no libFuzzer: replays a corpus,
 *	  and makes new inputs from it, the same ones for the same seed.
 *
 *	  fuzz FORMAT [--runs N] [--seed S] [--artifacts DIR] [--export DIR] [--make N] PATH...
 *
 * A PATH is a file or a directory of files.  A file *.cases holds one input
 * in a line (README.md), any other file is an input.  Inputs that reach new
 * code of src/codec (gcc's -fsanitize-coverage=trace-pc) join the corpus in
 * memory.  --make prints N made inputs as cases.  The last line tells what was
 * done; the exit code is not zero where something was found.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <dirent.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>

#include "common/hashfn.h"

#include "fuzz.h"

#define MAX_CORPUS		20000
#define HANG_SECONDS	30

typedef struct Input
{
	char	   *data;
	Size		len;
	char	   *name;
	char		expected;		/* y: well formed, n: not; i: no matter */
} Input;

static Input *corpus;
static int	ncorpus;
static int	ncases;

static int64 runs;
static int64 well_formed;
static const char *format_name;
static const char *artifacts = ".";
static const Input *in_work;
static uint64 seed = 1;
static bool replaying = true;

/* ---- coverage ---- */

#define COVERAGE_BITS	18

static uint8 covered[1 << COVERAGE_BITS];
static uintptr_t previous_pc;
static int	edges;

extern void __sanitizer_cov_trace_pc(void);
extern char __executable_start[];

void
__sanitizer_cov_trace_pc(void)
{
	uintptr_t	pc = (uintptr_t) __builtin_return_address(0) - (uintptr_t) __executable_start;
	uint32		edge = (uint32) ((pc ^ (previous_pc << 1)) * UINT64CONST(0x9e3779b97f4a7c15) >> (64 - COVERAGE_BITS));

	previous_pc = pc;
	if (!covered[edge])
	{
		covered[edge] = 1;
		edges++;
	}
}

/* ---- findings ---- */

static void
write_file(const char *dir, const char *name, const char *data, Size len)
{
	char		path[1024];
	FILE	   *file;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(data, 1, len, file) != len || fclose(file) != 0)
	{
		fprintf(stderr, "could not write %s\n", path);
		return;
	}
	fprintf(stderr, "written: %s\n", path);
}

static void
summary(int findings)
{
	if (replaying)
		printf("%s: inputs %lld, well formed %lld, accepted %lld, rejected %lld, findings %d\n", format_name,
			   (long long) runs, (long long) well_formed, (long long) fuzz_accepted, (long long) fuzz_rejected, findings);
	else
		printf("%s: runs %lld, accepted %lld, rejected %lld, findings %d (seed %llu, inputs %d, edges %d)\n", format_name,
			   (long long) runs, (long long) fuzz_accepted, (long long) fuzz_rejected, findings,
			   (unsigned long long) seed, ncorpus, edges);
	fflush(stdout);
}

/* The process is about to die of a finding. */
static void
on_death(void)
{
	static bool dying;
	const char *history;
	Size		len;
	char		name[100];
	Size		name_len;

	if (dying)
		return;
	dying = true;
	if (in_work != NULL)
	{
		uint32		hash = hash_bytes((const unsigned char *) in_work->data, (int) in_work->len);

		if (in_work->name != NULL)
			fprintf(stderr, "input: %s\n", in_work->name);
		name_len = snprintf(name, sizeof(name), "finding-%s-%08x", format_name, hash);
		write_file(artifacts, name, in_work->data, in_work->len);
		/* what the same decoder saw before it, in case that matters */
		fuzz_history(&history, &len);
		strlcpy(name + name_len, "-history", sizeof(name) - name_len);
		if (len > in_work->len)
			write_file(artifacts, name, history, len);
	}
	summary(1);
}

static int64 runs_at_alarm = -1;

static void
on_alarm(int signo)
{
	if (runs != runs_at_alarm)
	{
		runs_at_alarm = runs;
		return;
	}
	fprintf(stderr, "FINDING: one input takes more than %d seconds\n", HANG_SECONDS);
	on_death();
	_exit(1);
}

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

const char *
__asan_default_options(void)
{
	return "handle_abort=1:strict_string_checks=1:quarantine_size_mb=16:malloc_context_size=12:detect_leaks=1";
}

const char *
__ubsan_default_options(void)
{
	/* so that AddressSanitizer, whose callback we have, sees it die */
	return "print_stacktrace=1:halt_on_error=1:abort_on_error=1";
}

/*
 * LeakSanitizer stops the process by ptrace(); where that is forbidden (some
 * containers) it would fail, so it is left out.  The shim counts all that it
 * gives anyway.
 */
static bool can_trace;

extern int	__lsan_is_turned_off(void);

int
__lsan_is_turned_off(void)
{
	return !can_trace;
}

static void
try_ptrace(void)
{
	pid_t		child = fork();
	int			status;

	if (child == 0)
		_exit(ptrace(PTRACE_TRACEME, 0, NULL, NULL) == 0 ? 0 : 1);
	can_trace = child > 0 && waitpid(child, &status, 0) == child && status == 0;
	if (!can_trace)
		fprintf(stderr, "ptrace() is not allowed here: LeakSanitizer is off\n");
}

/* ---- corpus ---- */

static void
add_input(const char *data, Size len, const char *name, char expected)
{
	if (ncorpus % 1024 == 0)
		corpus = realloc(corpus, (ncorpus + 1024) * sizeof(Input));
	corpus[ncorpus].data = malloc(len + 1);
	if (len > 0)
		memcpy(corpus[ncorpus].data, data, len);
	corpus[ncorpus].len = len;
	corpus[ncorpus].name = name != NULL ? strdup(name) : NULL;
	corpus[ncorpus].expected = expected;
	ncorpus++;
}

static void
die(const char *what, const char *name)
{
	fprintf(stderr, "fuzz: %s: %s\n", what, name);
	exit(2);
}

static int
hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %hh: a byte; %<n text>: the text n times; all else is itself */
static void
unescape(const char *p, const char *end, const char *name, FuzzBuffer *out)
{
	while (p < end)
	{
		if (*p != '%')
			buffer_append(out, p++, 1);
		else if (end - p >= 3 && hex(p[1]) >= 0 && hex(p[2]) >= 0)
		{
			char		c = (char) (hex(p[1]) * 16 + hex(p[2]));

			buffer_append(out, &c, 1);
			p += 3;
		}
		else if (p + 1 < end && p[1] == '<')
		{
			char	   *text;
			long		n = strtol(p + 2, &text, 10);
			const char *stop = memchr(p, '>', end - p);

			if (n <= 0 || *text != ' ' || stop == NULL || text > stop)
				die("wrong repetition", name);
			while (n-- > 0)
				unescape(text + 1, stop, name, out);
			p = stop + 1;
		}
		else
			die("wrong escape", name);
	}
}

static void
add_cases(const char *path, const char *data, Size len)
{
	const char *p = data;
	const char *end = data + len;
	int			line = 0;

	for (; p < end; p++)
	{
		const char *stop = memchr(p, '\n', end - p);
		const char *tab;
		char		name[1200];
		FuzzBuffer		out = {0};

		line++;
		if (stop == NULL)
			stop = end;
		if (p < stop && *p != '#')
		{
			tab = memchr(p, '\t', stop - p);
			if (tab == NULL || tab - p > 100 || strchr("yni", *p) == NULL || p[1] != '_')
				die("not a case", path);
			snprintf(name, sizeof(name), "%s:%d %.*s", path, line, (int) (tab - p), p);
			unescape(tab + 1, stop, name, &out);
			add_input(out.data, out.len, name, *p);
			free(out.data);
		}
		p = stop;
	}
}

static void
add_path(const char *path)
{
	struct stat st;
	FILE	   *file;
	char	   *data;

	if (stat(path, &st) != 0)
		die("no such file", path);
	if (S_ISDIR(st.st_mode))
	{
		struct dirent **entries;
		int			n = scandir(path, &entries, NULL, alphasort);
		int			i;

		for (i = 0; i < n; i++)
		{
			char		name[1024];

			snprintf(name, sizeof(name), "%s/%s", path, entries[i]->d_name);
			if (entries[i]->d_name[0] != '.')
				add_path(name);
			free(entries[i]);
		}
		if (n >= 0)
			free(entries);
		return;
	}
	file = fopen(path, "rb");
	data = malloc(st.st_size + 1);
	if (file == NULL || fread(data, 1, st.st_size, file) != (size_t) st.st_size)
		die("could not read", path);
	fclose(file);
	data[st.st_size] = '\0';
	if (strlen(path) > 6 && strcmp(path + strlen(path) - 6, ".cases") == 0)
		add_cases(path, data, st.st_size);
	else
		add_input(data, st.st_size, path, 'i');
	free(data);
}

/* ---- the two ways to run ---- */

static void
replay(void)
{
	int			i;

	fuzz_thorough = true;
	for (i = 0; i < ncases; i++)
	{
		in_work = &corpus[i];
		runs++;
		if (fuzz_well_formed(in_work->data, in_work->len))
		{
			well_formed++;
			if (in_work->expected == 'n')
				fuzz_finding("%s is well formed", in_work->name);
		}
		else if (in_work->expected == 'y')
			fuzz_finding("%s is not well formed", in_work->name);
		fuzz_input(in_work->data, in_work->len, -1);
		/* each input by itself, so that it can be run again */
		fuzz_forget();
	}
	in_work = NULL;
	fuzz_thorough = false;
}

/* An input, or where it holds many messages mostly only a few of them in a row. */
static void
take_input(Random *random, const Input *base, FuzzBuffer *out)
{
	const char *p = base->data;
	const char *end = base->data + base->len;
	const char *stop;
	int			n = 1 + random_below(random, 4);

	if (base->len > 0 && !fuzz_binary && random_below(random, 8) != 0)
	{
		p += random_below(random, base->len);
		while (p > base->data && p[-1] != FUZZ_SEPARATOR)
			p--;
		for (stop = p; stop < end && (*stop != FUZZ_SEPARATOR || --n > 0); stop++)
			;
		end = stop;
	}
	buffer_append(out, p, end - p);
}

static void
fuzz(int64 n)
{
	Random		random = {seed};
	FuzzBuffer		made = {0};
	int			first;
	int			nsets;

	fuzz_sets_of(fuzz_format, &first, &nsets);
	fuzz_accepted = fuzz_rejected = 0;
	for (runs = 0; runs < n; runs++)
	{
		const FuzzSet *set = &fuzz_sets[first + random_below(&random, nsets)];
		const Input *base = &corpus[random_below(&random, ncorpus)];
		const Input *other = &corpus[random_below(&random, ncorpus)];
		Input		input = {NULL, 0, NULL, 'i'};
		int			edges_before;
		uint32		way = random_below(&random, 10);

		if ((set->flags & SET_COSTLY) && random_below(&random, 8) != 0)
			set = &fuzz_sets[first];
		made.len = 0;
		if (way < 6)
			generate_message(&random, set, &made);
		else
			take_input(&random, base, &made);
		if (way >= 4)
			mutate_message(&random, set, &made, other->data, other->len);
		if (way == 9)
			mutate_message(&random, set, &made, other->data, other->len);

		input.data = made.data;
		input.len = made.len;
		in_work = &input;
		edges_before = edges;
		previous_pc = 0;
		fuzz_input(made.data, made.len, (int) (set - fuzz_sets));
		in_work = NULL;
		if (edges > edges_before && ncorpus < MAX_CORPUS)
			add_input(made.data, made.len, NULL, 'i');
	}
	fuzz_forget();
	free(made.data);
}

static void
export_corpus(const char *dir)
{
	int			i;

	for (i = 0; i < ncases; i++)
	{
		char		name[100];

		snprintf(name, sizeof(name), "%s-%04d", format_name, i);
		write_file(dir, name, corpus[i].data, corpus[i].len);
	}
}

/* Inputs as they are made, which are good ones. */
static void
print_made(int n)
{
	Random		random = {seed};
	FuzzBuffer		made = {0};
	int			i;
	Size		k;

	for (i = 0; i < n; i++)
	{
		made.len = 0;
		generate_message(&random, &fuzz_sets[0], &made);
		printf("y_made_%d\t", i);
		for (k = 0; k < made.len; k++)
		{
			if (made.data[k] > ' ' && made.data[k] < 0x7f && made.data[k] != '%')
				putchar(made.data[k]);
			else
				printf("%%%02x", (unsigned char) made.data[k]);
		}
		putchar('\n');
	}
	free(made.data);
}

int
main(int argc, char **argv)
{
	int64		n = 0;
	const char *export = NULL;
	int			make = 0;
	char		base;
	int			i;
	int			findings;
	struct itimerval every = {{HANG_SECONDS, 0}, {HANG_SECONDS, 0}};

	if (argc < 2 || !codec_format_by_name(argv[1], &fuzz_format))
	{
		fprintf(stderr, "usage: %s %s [--runs N] [--seed S] [--artifacts DIR] [--export DIR] [--make N] PATH...\n", argv[0], fuzz_formats);
		return 2;
	}
	format_name = argv[1];
	for (i = 2; i < argc; i++)
	{
		if (i + 1 < argc && strcmp(argv[i], "--runs") == 0)
			n = strtoll(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
			seed = strtoull(argv[++i], NULL, 10);
		else if (i + 1 < argc && strcmp(argv[i], "--artifacts") == 0)
			artifacts = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--export") == 0)
			export = argv[++i];
		else if (i + 1 < argc && strcmp(argv[i], "--make") == 0)
			make = atoi(argv[++i]);
		else
			add_path(argv[i]);
	}
	ncases = ncorpus;
	if (ncases == 0 && make == 0)
		die("no inputs", argc > 2 ? argv[argc - 1] : format_name);
	if (export != NULL)
	{
		export_corpus(export);
		return 0;
	}

	try_ptrace();
	__sanitizer_set_death_callback(on_death);
	shim_stack_base(&base);
	fuzz_init();
	if (make > 0)
	{
		print_made(make);
		return 0;
	}
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &every, NULL);
	if (n == 0)
		replay();
	else
	{
		replaying = false;
		fuzz(n);
	}
	findings = __lsan_do_recoverable_leak_check() != 0;
	summary(findings);
	/* the leaks are told already */
	if (findings)
		_exit(1);
	return 0;
}
