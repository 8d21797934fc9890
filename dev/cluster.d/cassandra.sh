# shellcheck shell=bash disable=SC2017,SC2154
# Sourced by dev/cluster: how a node of Cassandra is set, launched, and known to serve.

jmx_port() { echo $((${CASSANDRA_JMX_PORT:-7199} + 100 * ($1 - 1))); }

# cassandra_yaml NODE I N. Every node is a seed, is given its token and skips bootstrap: so all may start at once, alone, and
# in any order. `batch`: under the default, `periodic`, acked writes of the last 100 ms are lost by kill -9. Without
# snapshots: the tests drop many tables.
cassandra_yaml() {
  local node=$1 i=$2 n=$3
  cat <<YAML
cluster_name: anabranch-dev
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: $net.$i
rpc_address: $net.$i
storage_port: 7000
native_transport_port: 9042
num_tokens: 1
initial_token: $((-9223372036854775807 - 1 + 9223372036854775807 / n * 2 * (i - 1)))
auto_bootstrap: false
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "$(seq -f "$net.%g:7000" "$n" | paste -sd,)"
data_file_directories: ["$node/data"]
commitlog_sync: batch
auto_snapshot: false
YAML
  [ -z "${CASSANDRA_YAML:-}" ] || cat -- "$CASSANDRA_YAML"
}

# A small -Xms, because root's JVM locks it into memory. superuser_setup_delay_ms is the delay between retries too: never 0.
launch_cassandra() {
  local node=$1 i=$2 classes jamm
  classes=$(class_path cassandra)
  jamm=$(tr ':' '\n' <<<"$classes" | grep '/jamm-[^/]*\.jar$')
  cassandra_yaml "$@" >"$node/cassandra.yaml"
  # shellcheck disable=SC2086
  launch "$node" @"$here/cassandra-jvm.options" "-javaagent:$jamm" -Xms64m "-Xmx${CASSANDRA_HEAP:-512m}" \
    ${CASSANDRA_JVM:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} "-Dlogback.configurationFile=$here/cassandra-logback.xml" \
    "-Dcassandra.config=file://$node/cassandra.yaml" "-Dcassandra.storagedir=$node" \
    "-Dcassandra.jmx.local.port=$(jmx_port "$i")" -Dcassandra-foreground=yes -Dcassandra.ring_delay_ms=2000 \
    -Dcassandra.skip_wait_for_gossip_to_settle=0 -Dcassandra.superuser_setup_delay_ms=500 \
    -Dcassandra.shutdown_announce_in_ms=0 -cp "$classes" org.apache.cassandra.service.CassandraDaemon
}

# settled_cassandra N: every node sees every node up.
settled_cassandra() {
  local i
  [ "$1" -gt 1 ] || return 0
  for i in $(seq "$1"); do
    (run_cassandra org.apache.cassandra.tools.NodeTool -p "$(jmx_port "$i")" status 2>/dev/null | grep -c '^UN') &
  done | { [ "$(grep -cx "$1")" = "$1" ]; }
}

# The tools for SSTables want the settings of some node: they get their own. JAVA_OPTS may name those of a real one. A `.java`
# file is compiled first, by the compiler among Cassandra's own jars: a JRE has none. As Java 8, which knows no modules: one of the
# jars has a package of the JDK's name.
run_cassandra() {
  local classes built tools=$cache/cassandra-tools
  classes=$(class_path cassandra)
  if [[ $1 == *.java ]]; then
    built=$cache/java-$(cat "$1" "$here/pom.xml" | sha256sum | cut -c1-12)
    if ! [ -d "$built" ]; then
      "$(find_java)" -cp "$classes" org.eclipse.jdt.internal.compiler.batch.Main -8 -nowarn -d "$built.$BASHPID" "$1" >&2 ||
        die "$1 does not compile"
      mv -T "$built.$BASHPID" "$built" 2>/dev/null || rm -rf "$built.$BASHPID"
    fi
    classes=$classes:$built
    set -- "$(basename "$1" .java)" "${@:2}"
  fi
  mkdir -p "$tools"
  cassandra_yaml "$tools" 1 1 >"$tools/cassandra.yaml.$BASHPID"
  mv "$tools/cassandra.yaml.$BASHPID" "$tools/cassandra.yaml"
  # shellcheck disable=SC2086
  "$(find_java)" @"$here/cassandra-jvm.options" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    "-Duser.home=$tools" "-Dlogback.configurationFile=$here/cassandra-logback.xml" -Dlog.level=WARN \
    -Dlog.target=System.err "-Dcassandra.config=file://$tools/cassandra.yaml" "-Dcassandra.storagedir=$tools" \
    ${JAVA_OPTS:-} -cp "$classes" "$@" 9>&-
}
