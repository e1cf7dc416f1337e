# streamproc, built with PGXS.  "make help" lists the targets.
#
# A room is a directory of src/: every .c and .cc in it belongs to the module,
# nothing is listed here by name.

MODULE_big = streamproc
EXTENSION = streamproc
DATA = sql/streamproc--1.0.sql sql/streamproc--1.0--1.1.sql sql/streamproc--1.1--1.2.sql
PGFILEDESC = "streamproc - Kafka topics into tables, exactly once"

SOURCES_C = $(sort $(wildcard src/*.c src/*/*.c))
SOURCES_CC = $(sort $(wildcard src/*/*.cc))
OBJS = $(SOURCES_C:.c=.o) $(SOURCES_CC:.cc=.o)
DEPS = $(OBJS:.o=.d)
TOOLS = test/kafka/kafka_tool test/kafka/load

PG_CONFIG ?= $(firstword $(wildcard /usr/lib/postgresql/15/bin/pg_config) pg_config)

# PostgreSQL's own headers are system headers: our warnings are about our code.
WARNINGS = -Wall -Wextra -Werror -Wno-unused-parameter -Wno-sign-compare \
	-Wno-missing-field-initializers
PG_CPPFLAGS = -Isrc -isystem $(shell $(PG_CONFIG) --includedir-server 2>/dev/null) -MMD -MP
# Nobody replaces functions of ours by other ones: calls among them go straight, and may be inlined, also from one file
# into another where the compiler can do that.  With LTO= linking takes no time, for builds that are not measured.
ifeq ($(origin LTO),undefined)
LTO := $(shell echo 'int main(void) { return 0; }' | $$($(PG_CONFIG) --cc 2>/dev/null) -flto=auto -Werror -x c - -o /dev/null 2>/dev/null && echo -flto=auto)
endif
PG_CFLAGS = -std=gnu11 -fno-semantic-interposition $(LTO) $(WARNINGS)
PG_CXXFLAGS = -std=c++17 -fno-exceptions -fno-rtti $(WARNINGS) $(COPT)
SHLIB_LINK = -Wl,-Bsymbolic-functions -lrdkafka -lsimdjson -lxxhash -lstdc++

EXTRA_CLEAN = $(DEPS) build-assert results output_iso tmp_check tmp_check_iso log \
	regression.diffs regression.out
NO_INSTALLCHECK = 1

# PGXS would want clang for bitcode of the C++ file.
override with_llvm = no
PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
PG_MAJOR := $(shell $(PG_CONFIG) --version 2>/dev/null | sed 's/^PostgreSQL \([0-9]*\).*/\1/')

ifneq ($(if $(PGXS),$(PG_MAJOR)),15)

# Not there yet: "make test" and "make demo" see to that themselves.
all install installcheck assert clean:
	@echo 'no PostgreSQL 15 to build with: run test/setup.sh as root, or set PG_CONFIG' >&2; exit 1

else

include $(PGXS)

# ours, because PGXS's rule for .cc would leave out -fPIC
$(SOURCES_CC:.cc=.o): %.o: %.cc
	$(CXX) $(CXXFLAGS) $(CFLAGS_SL) $(CPPFLAGS) -c -o $@ $<

# another compiler line is another object
$(OBJS): Makefile

-include $(DEPS)

all: tools

tools:
	@$(MAKE) -s -C test/kafka all

clean: clean-tools

clean-tools:
	@$(MAKE) -s -C test/kafka clean

# A second build with PostgreSQL's assertions, beside the first one.
# "make test" installs and tests it too.
assert:
	mkdir -p build-assert
	tar --exclude='*.o' --exclude='*.d' --exclude='*.so' -cf - Makefile streamproc.control sql src test/kafka | \
		tar -C build-assert -xf -
	$(MAKE) -C build-assert COPT=-DUSE_ASSERT_CHECKING all

# Regression tests against the installed extension, in an instance of their own.
installcheck:
	test/run.sh --installed regress isolation

endif

# Everything, from an empty machine on (as root it installs what is missing).
test:
	test/run.sh

# The long form of the crash tests.
crash:
	test/run.sh --long build crash

# Faults by chance for a while, under a steady load; SEED repeats a run.
chaos:
	MINUTES=$(or $(MINUTES),10) SEED=$(SEED) test/run.sh build chaos

# The oracle suite, each query with 1, 2 and 4 tasks, with and without a kill; ORACLE_SEED, ORACLE_ONLY, ORACLE_GENERATED.
oracle:
	ORACLE_ALL=1 test/run.sh --long --only 090_oracle build tap

# Wrong changes of the source, each of which a test must see; MUTANTS="NAME ..." some of them.
mutants:
	test/mutants/run.sh $(MUTANTS)

# The long form of the fuzz tests: RUNS inputs for each decoder and each kind of segments.
fuzz:
	@$(MAKE) -s -C test/fuzz run RUNS=$(or $(RUNS),1000000) SEED=$(or $(SEED),1) PG_CONFIG="$(PG_CONFIG)"

# Regression, isolation and TAP tests with the module built with AddressSanitizer and UndefinedBehaviorSanitizer.
sanitize:
	test/run.sh sanitize

lint:
	test/lint/check.sh

bench:
	bench/run.sh

# The same queries in Flink and Kafka Streams, on this machine.
bench-peers:
	bench/run.sh peers

demo:
	demo/run.sh start

demo-stop:
	demo/run.sh stop

help:
	@echo 'make              build the module and the test tools'
	@echo 'make install      into the PostgreSQL of pg_config (root)'
	@echo 'make installcheck regression tests of the installed extension'
	@echo 'make demo         everything from nothing: install, build, stream, watch; make demo-stop'
	@echo 'make test         all tests, on a copy of this tree, with a real broker; test/run.sh --help'
	@echo 'make crash        the long crash test'
	@echo 'make chaos        faults of all kinds by chance; MINUTES=10 SEED=n'
	@echo 'make oracle       results of pipelines against those of batches, the long form'
	@echo 'make mutants      do the tests see wrong changes of the source? MUTANTS="NAME ..."'
	@echo 'make fuzz         the long fuzz test of decoders and segments; RUNS=1000000 SEED=1'
	@echo 'make sanitize     the tests with the module built with sanitizers; SANITIZE="regress isolation tap"'
	@echo 'make bench        one table of speed, latency and memory'
	@echo 'make bench-peers  against Flink and Kafka Streams; bench/peers/README.md'
	@echo 'make lint         rules of the source, cppcheck'
	@echo 'make assert       a second build with assertions, in build-assert/'

.PHONY: tools clean-tools assert test installcheck crash chaos oracle mutants fuzz sanitize lint bench bench-peers demo demo-stop help
