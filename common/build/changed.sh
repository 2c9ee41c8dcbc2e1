# Sourced by tests/drawn and tests/watched: what CI's extra work depends on, the commit and the files that it has changed.
head=$(git rev-parse HEAD)
base=$(git merge-base HEAD origin/main 2>/dev/null || true)
[ "$base" != "$head" ] || base=""
# Files that have changed since main; on main, since the commit before. Nothing, where a clone has no history.
changed=$(git diff --name-only "${base:-HEAD^}" HEAD 2>/dev/null || true)

# Mixes lines by the commit's hash.
mix() { LC_ALL=C sort -R --random-source=<(echo "$head"); }
