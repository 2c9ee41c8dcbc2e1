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

# quietly COMMAND...: its output only when it fails
quietly() {
  local log
  log=$(mktemp)
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    return 1
  fi
  rm -f "$log"
}

# build FOLDER "CMAKE OPTIONS" TARGET...
build() {
  local folder=$1 options=$2
  shift 2
  [ -f "$folder/Makefile" ] || quietly cmake -S . -B "$folder" -G "Unix Makefiles" $options || return 1
  echo "building $* (once; a minute or two) ..." >&2
  quietly cmake --build "$folder" -j "$(getconf _NPROCESSORS_ONLN)" --target "$@"
}
