# shellcheck shell=bash disable=SC2154
# Sourced by dev/cluster: how a node of Kafka (broker and controller in one) is set, launched, and known to serve.

kafka_log=(-Dorg.slf4j.simpleLogger.showDateTime=true "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss,SSS")

# kafka_properties NODE I N. The inner topics are small and a group does not wait for more members. Short sessions: a killed
# broker comes back, and its partitions move, only when the session of before has run out. A small buffer of the cleaner:
# the default alone is half of the heap.
kafka_properties() {
  local node=$1 i=$2 n=$3 copies=$(($3 < 3 ? $3 : 3)) in_sync
  in_sync=$((copies / 2 + 1))
  cat <<PROPERTIES
process.roles=broker,controller
node.id=$i
controller.quorum.voters=$(for v in $(seq "$n"); do echo "$v@$net.$v:9093"; done | paste -sd,)
listeners=PLAINTEXT://$net.$i:9092,CONTROLLER://$net.$i:9093
controller.listener.names=CONTROLLER
log.dirs=$node/data
default.replication.factor=$copies
min.insync.replicas=$in_sync
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=3
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=3
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
PROPERTIES
  [ -z "${KAFKA_PROPERTIES:-}" ] || cat -- "$KAFKA_PROPERTIES"
}

launch_kafka() {
  local node=$1 classes
  classes=$(class_path kafka)
  kafka_properties "$@" >"$node/server.properties"
  if ! [ -e "$node/data/meta.properties" ]; then
    run_kafka kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$node/server.properties" >>"$node/log" 2>&1 ||
      die "Kafka could not make its folder; see $node/log"
  fi
  # shellcheck disable=SC2086
  launch "$node" "-Xmx${KAFKA_HEAP:-256m}" ${KAFKA_JVM:--XX:+UseSerialGC -XX:TieredStopAtLevel=1} "${kafka_log[@]}" \
    -cp "$classes" kafka.Kafka "$node/server.properties"
}

# settled_kafka N: a broker's port opens before the controllers let it serve.
settled_kafka() {
  local i
  for i in $(seq "$1"); do
    awk '/^=== launched/ { up = 0 } /Kafka Server started/ { up = 1 } END { exit !up }' "$dir/kafka$i/log" || return 1
  done
}

run_kafka() {
  local classes
  classes=$(class_path kafka)
  # shellcheck disable=SC2086
  "$(find_java)" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData "${kafka_log[@]}" \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn ${JAVA_OPTS:-} -cp "$classes" "$@" 9>&-
}
