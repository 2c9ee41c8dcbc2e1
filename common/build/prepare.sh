# Sourced by chapters/run, tests/run and docs/run, from the repository's root: finds what is missing, installs it, builds.
# What is there is found by command or header, not by package, so that other ways of installing count.
wanted=()

# need DEBIAN-PACKAGE PROBE...: the package is wanted when the probe fails
need() {
  local package=$1
  shift
  "$@" >/dev/null 2>&1 || wanted+=("$package")
}

header() {
  local folder
  for folder in ${CONDA_PREFIX:+"$CONDA_PREFIX/include"} /usr/include /usr/local/include /opt/homebrew/include; do
    [ -e "$folder/$1" ] && return
  done
  return 1
}

need_build_tools() {
  need g++ command -v c++
  need make command -v make
  need cmake command -v cmake
  need libxtensor-dev eval 'header xtensor.hpp || header xtensor/xtensor.hpp || header xtensor/containers/xtensor.hpp'
  need nlohmann-json3-dev header nlohmann/json.hpp
  need libboost-dev header boost/beast/http.hpp
}

need_catch() { need catch2 header catch2; }

install_wanted() {
  [ ${#wanted[@]} -gt 0 ] || return 0
  local install="apt-get install -y --no-install-recommends ${wanted[*]}"
  if ! command -v apt-get >/dev/null; then
    echo "kvbook: missing: ${wanted[*]} (Debian's package names): please install them and call this again" >&2
    return 1
  fi
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      echo "kvbook: packages are missing; please run:  sudo apt-get update && sudo $install" >&2
      return 1
    fi
    root=(sudo)
  fi
  echo "+ $install" >&2
  export DEBIAN_FRONTEND=noninteractive
  # Package lists may be absent or old: fetch them only when the first try fails.
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive $install >build.log 2>&1 ||
    { "${root[@]}" apt-get update >build.log 2>&1 &&
      "${root[@]}" env DEBIAN_FRONTEND=noninteractive $install >>build.log 2>&1; } ||
    { cat build.log >&2; return 1; }
  rm -f build.log
  wanted=()
}

# chapter_number TEXT FOLDER: the two digits of a chapter, from "3" or "03". One that has no FOLDER/NN_*: exit code 2.
chapter_number() {
  local known number=$1
  known=$(cd "$2" && ls -d [0-9][0-9]_* | cut -c1-2 | sort -u | paste -sd ' ' -)
  [[ ! $number =~ ^[0-9]$ ]] || number=0$number
  if [[ ! $number =~ ^[0-9]{2}$ || " $known " != *" $number "* ]]; then
    echo "kvbook: there is no chapter '$1' in $2/ (known: $known)" >&2
    exit 2
  fi
  echo "$number"
}

# build WHAT "CMAKE OPTIONS" TARGET...: configures anew, so that new files are known, and builds the targets in
# $build_folder, with the book's own files unless an option says otherwise (KV_EXERCISE), none of them watched (KV_WATCHED). How
# far it is goes to standard error, the compiler's messages only when it fails.
build_folder=build
build() {
  local what=$1 options=$2 log
  shift 2
  log=$(mktemp)
  echo "building $what ..." >&2
  if ! { cmake -S . -B "$build_folder" -G "Unix Makefiles" -DKV_EXERCISE= -DKV_WATCHED= $options &&
    cmake --build "$build_folder" -j "$(getconf _NPROCESSORS_ONLN)" --target "$@"; } 2>&1 | tee "$log" | show_progress; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# Reads what make prints and says how far it is: on a terminal in one line that counts up, elsewhere at each quarter.
# The time left is an estimate by the number of files.
show_progress() {
  local line percent passed text next=25 begin=$SECONDS
  while IFS= read -r line; do
    [[ $line =~ ^\[\ *([1-9][0-9]*)%\]\ (.*) ]] || continue
    percent=${BASH_REMATCH[1]} passed=$((SECONDS - begin))
    text="$percent% after $passed s, about $((passed * (100 - percent) / percent)) s to go"
    if [ -t 2 ]; then
      text="$text: ${BASH_REMATCH[2]}"
      printf '\r\033[K%s' "${text:0:${COLUMNS:-80}-1}" >&2
    elif [ "$percent" -ge "$next" ] && [ "$percent" -lt 100 ]; then
      echo "  $text" >&2
      next=$((percent / 25 * 25 + 25))
    fi
  done
  [ ! -t 2 ] || printf '\r\033[K' >&2
}
