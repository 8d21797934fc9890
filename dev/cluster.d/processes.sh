# shellcheck shell=bash disable=SC2154
# Sourced by dev/cluster: Java, Maven, and processes that are known by the folder that they were launched for.

say() { echo "dev/cluster: $*" >&2; }
die() {
  say "$*"
  exit 1
}

# The newest Java that the servers are supported on.
find_java() {
  local version found
  for version in 17 21; do
    for found in ${JAVA_HOME:+"$JAVA_HOME/bin/java"} /usr/lib/jvm/java-"$version"-openjdk-*/bin/java "$(command -v java || true)"; do
      if [ -x "$found" ] && "$found" -version 2>&1 | grep "version \"$version\." >/dev/null; then
        echo "$found"
        return
      fi
    done
  done
  return 1
}

install_java() {
  local missing=() as_root=()
  find_java >/dev/null || missing+=(openjdk-17-jre-headless)
  command -v mvn >/dev/null || missing+=(maven)
  [ ${#missing[@]} -gt 0 ] || return 0
  say "installing ${missing[*]}"
  [ "$(id -u)" = 0 ] || as_root=(sudo)
  export DEBIAN_FRONTEND=noninteractive
  {
    ${as_root[@]+"${as_root[@]}"} apt-get update -q &&
      ${as_root[@]+"${as_root[@]}"} apt-get install -q -y --no-install-recommends "${missing[@]}"
  } </dev/null >&2 || die "apt could not install ${missing[*]}; Java 17 may also be named by JAVA_HOME"
  find_java >/dev/null || die "there is no Java 17 or 21 here: install one, or name it by JAVA_HOME"
}

# class_path PROFILE: of the pom. Maven runs only when the pom has changed or a jar is gone.
class_path() {
  local file
  file=$cache/classpath-$1-$(sha256sum <"$here/pom.xml" | cut -c1-12)
  (
    flock 8
    if ! [ -s "$file" ] || ! tr ':' '\n' <"$file" | xargs -d '\n' ls >/dev/null 2>&1; then
      say "asking Maven for the jars of $1"
      # Maven would take the home of the password file.
      MAVEN_OPTS="-Duser.home=$HOME ${MAVEN_OPTS:-}" mvn -B -q -ntp -Dstyle.color=never -f "$here/pom.xml" -P "$1" \
        dependency:build-classpath -Dmdep.outputFile="$file.new" >&2 || die "Maven could not resolve the jars of $1"
      mv "$file.new" "$file"
    fi
  ) 8>"$cache/classpath.lock" || exit 1
  cat "$file"
}

# alive NODE: the process of its pid file is the one that was launched for this folder, not a later one of that number.
alive() {
  local pid
  pid=$(cat "$1/pid" 2>/dev/null) && grep -qxzF -- "-Danabranch.node=$1" "/proc/$pid/cmdline" 2>/dev/null
}

answers() { (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; }

# launch NODE JAVA_ARG...: detached, with no file of ours open, so that a caller's pipes and locks end with us. The native
# libraries that a JVM unpacks stay behind when it is killed: so its temporary files are in its folder.
launch() {
  local node=$1
  shift
  rm -rf "$node/tmp"
  mkdir -p "$node/tmp"
  echo "=== launched $(date -u +%FT%TZ)" >>"$node/log"
  setsid "$(find_java)" "-Danabranch.node=$node" "-Djava.io.tmpdir=$node/tmp" "-Djna.tmpdir=$node/tmp" \
    -XX:-UsePerfData -XX:+ExitOnOutOfMemoryError "$@" </dev/null >>"$node/log" 2>&1 9>&- &
  echo $! >"$node/pid"
  until alive "$node" || ! kill -0 $! 2>/dev/null; do sleep 0.01; done
}

# The first errors since the last launch.
errors() {
  awk '/^=== launched/ { n = 0 } /ERROR|Exception|Error/ && n < 3 { line[n++] = $0 }
    END { for (i = 0; i < n; i++) print line[i] }' "$1/log" | cut -c1-300
}

# await NODE WHAT COMMAND...: until the command succeeds; fails when the node ends or the time is up.
await() {
  local node=$1 what=$2 end=$((SECONDS + timeout))
  shift 2
  until "$@"; do
    if ! alive "$node"; then
      errors "$node" >&2
      die "a node ended; its log is $node/log"
    fi
    [ $SECONDS -lt $end ] || die "$what: no answer within $timeout s; see $node/log"
    sleep 0.2
  done
}

# stop NODE...: asks all, then waits for all; what has not ended after 60 s is killed. A paused one is woken first.
stop() {
  local node end=$((SECONDS + 60))
  for node in "$@"; do
    ! alive "$node" || { kill -CONT "$(cat "$node/pid")" && kill "$(cat "$node/pid")"; } || true
  done
  for node in "$@"; do
    while alive "$node"; do
      [ $SECONDS -lt $end ] || kill -9 "$(cat "$node/pid")" || true
      sleep 0.1
    done
    rm -f "$node/pid"
  done
}
