# Shortcuts for the scripts; `just` lists them. Nothing depends on just.

set positional-arguments

_list:
    @just --list

# Unit tests, simulation and house rules: no Kafka, no database, no Docker
fast:
    scripts/fast

# Form, lints, documentation and spelling
lint:
    scripts/lint

# Makes this machine ready to build and test
setup:
    scripts/setup

# All tests; installs or names what is missing
test *args:
    scripts/test "$@"

# Licences, sources, banned crates and advisories
deny:
    scripts/deny

# Everything that a change must pass
ci:
    .ci/run

# The files under deploy/, the image and the compose files
check-deploy:
    scripts/check-deploy

# The service, a broker and a simulated Desk in one process
demo:
    cargo demo

# Throughput beside a plain loop
bench *args:
    scripts/bench "$@"

# Field tests that take minutes
field *args:
    scripts/field "$@"

# Random faults on real parts, for MINUTES
chaos minutes="5":
    scripts/chaos --minutes {{minutes}}

# Field tests that take minutes
field *args:
    scripts/field "$@"
