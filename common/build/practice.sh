# Sourced by tests/exercise and tests/break after prepare.sh: a file in the place of one of the book's, and tests with it.
# A reader has a folder for that, CI has one folder for all.
build_folder=build/exercise
[ -z "${CI:-}" ] || build_folder=build

# build_in_place WHAT FILE TEST...: the tests with FILE in the place of the one that its first line names; without FILE the book's.
build_in_place() { build "$1" "-DBUILD_TESTING=ON -DKV_EXERCISE=$2" "${@:3}"; }

# run_program TEST ARG...: a test program, for five minutes at most.
run_program() {
  local fixed=""
  [[ ! $1 =~ _(tsan|races)$ ]] || ! setarch -R true 2>/dev/null || fixed="setarch -R"  # see common/cuda/cuda.cmake
  (cd "$build_folder/tests" && TSAN_OPTIONS=halt_on_error=1 timeout 300 $fixed "./$1" "${@:2}")
}
