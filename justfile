# The front door. CI calls the same recipes' commands.

default:
    @just --list

# Formatting, lints, layers, and what may be depended on.
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets --features anabranch/cluster --locked -- -D warnings
    cargo clippy -p anabranch --locked -- -D warnings
    cargo deny check bans licenses sources

# Everything: installs what a machine lacks, then every test.
test:
    ./dev/test

# A real Cassandra and a real Kafka on loopback (`just cluster up --cassandra 3`, `just cluster down`).
cluster *ARGS:
    ./dev/cluster {{ARGS}}

# One world of the simulation and everything that happens in it (`just sim 814`), or many (`just sim --seeds 10000`).
sim *ARGS:
    cargo run -p anabranch-simulation -- {{ARGS}}

# Loads real-looking data, reads it, and leaves a server running.
demo:
    cargo run --release -- demo

# The measured figures, with their floors in the same run.
bench *ARGS:
    cargo run --release -- bench {{ARGS}}
    cargo bench -p anabranch-storage --bench engine

# What splitting is worth on Cassandra, before and after: starts a node for each format of SSTables. About 40 minutes.
bench-wide *ARGS:
    cargo run --release --features cluster -- bench wide {{ARGS}}
