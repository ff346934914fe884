# A session with the contree CLI, as its manual has it; called by run.sh.
set -euo pipefail
shopt -s inherit_errexit

# expect WHAT TEXT COMMAND...: the command succeeds and its output has the text.
expect() {
  local what=$1 wanted=$2 output
  shift 2
  output=$("$@" 2>&1) || { printf '%s: FAILED with status %d:\n%s\n' "$what" $? "$output"; exit 1; }
  case $output in
    *"$wanted"*) echo "ok: $what" ;;
    *) printf '%s: %q is not in:\n%s\n' "$what" "$wanted" "$output"; exit 1 ;;
  esac
}

# refuse WHAT TEXT COMMAND...: the command fails and says the text.
refuse() {
  local what=$1 wanted=$2 output status=0
  shift 2
  output=$("$@" 2>&1) || status=$?
  if [ $status -eq 0 ]; then
    printf '%s: did not fail:\n%s\n' "$what" "$output"; exit 1
  fi
  case $output in
    *"$wanted"*) echo "ok: $what" ;;
    *) printf '%s: %q is not in:\n%s\n' "$what" "$wanted" "$output"; exit 1 ;;
  esac
}

refuse "a wrong token is refused" "401" contree auth --type jwt --token wrong --url "$COPPICE_URL"
expect "the account is set up" "" contree auth --type jwt --token "$COPPICE_TOKEN" --url "$COPPICE_URL"
expect "the profile works" "default" contree auth profiles
export CONTREE_SESSION=coppice-test

expect "images are listed" "busybox:latest" contree images
expect "an image is chosen" "" contree use tag:busybox:latest
expect "a command runs" "Linux" contree run -- uname -a
expect "the shell expands" "a-b" contree run -s -- 'x=a; echo $x-b | tee /root/made'
expect "files are listed without a VM" "made" contree ls /root
expect "a file is read without a VM" "a-b" contree cat /root/made
expect "a file is copied out" "" contree cp /root/made made.txt
[ "$(cat made.txt)" = a-b ]
refuse "a missing file is named" "nothing" contree cat /root/nothing
refuse "a command's status comes through" "" contree run -D -s -- 'exit 3'
expect "standard input goes in" "FROM INPUT" bash -c "echo from input | contree run -D -- tr a-z A-Z"

printf '#!/bin/sh\necho "script $1"\n' >script.sh
chmod +x script.sh
expect "a local script runs there" "script one" contree run -D -I script.sh one
printf 'carried' >carried.txt
expect "a file goes in with a run" "carried" contree run -D --file carried.txt:/opt/in/carried:m0600 -- cat /opt/in/carried
expect "a file is staged" "" contree file cp carried.txt /opt/staged
expect "the staged file is in the next image" "carried" contree run -- cat /opt/staged
expect "the environment is the session's" "" contree env COLOUR=green
expect "the environment goes in" "green" contree run -D -s -- 'echo $COLOUR'
expect "the folder is the session's" "" contree cd /opt
expect "the folder is used" "/opt" contree run -D -- pwd

expect "a branch is made" "experiment" contree session branch experiment
expect "the branch is checked out" "" contree session checkout experiment
expect "the branch changes" "" contree run -s -- 'echo branched >/root/branched'
expect "the branch has its file" "branched" contree cat /root/branched
expect "main is checked out" "" contree session checkout main
refuse "main does not have it" "" contree cat /root/branched
expect "main changes" "" contree run -s -- 'rm /root/made'
refuse "the file is gone" "" contree cat /root/made
expect "the change is rolled back" "" contree session rollback
expect "the file is back" "a-b" contree cat /root/made
expect "the history is shown" "experiment" contree session show --all

expect "a detached run begins" "" contree run -d -s -- 'sleep 2; echo late'
expect "operations are listed" "instance" contree ps
expect "it is waited for" "" contree operation wait --all --timeout 300
expect "its output is there" "late" bash -c 'contree show "$(contree -o json ps --all | head -n 1 | jq -r .uuid)"'
expect "another one begins" "" contree run -d -- sleep 600
expect "it is killed" "" contree kill --all
expect "it is cancelled" "CANCELLED" contree -o json operation list --all

expect "the image is tagged" "" contree tag work/kept:1
expect "the tag is listed" "work/kept:1" contree images --prefix work/
image=$(contree -o json images --prefix work/kept | jq -r .uuid)
expect "the tag is taken off" "" contree tag -U "$image" work/kept:1
expect "grep finds the lines" "root" contree grep 'root:.*:0:0' /etc/passwd
expect "the root is exported" "" contree export /etc -F etc.tar.gz
tar -tzf etc.tar.gz | grep -q '^etc/passwd$'

mkdir -p context
printf 'from the context\n' >context/data.txt
cat >context/Dockerfile <<'D'
FROM busybox:latest AS first
RUN echo built >/built
FROM busybox:latest
ARG WORD=default
ENV WORD=$WORD
WORKDIR /app
COPY data.txt /app/data.txt
COPY --from=first /built /app/built
RUN echo "$WORD" >>/app/data.txt && cat /app/data.txt /app/built
D
expect "a Dockerfile is built" "" contree build context --tag work/built:1 --build-arg WORD=given
expect "it is built from its layers" "CACHED" contree build context --tag work/built:1 --build-arg WORD=given
expect "the built image has its files" "from the context
given
built" contree run --use tag:work/built:1 -D -- cat /app/data.txt /app/built

expect "an image is imported" "" contree images import "docker://$COPPICE_REGISTRY/debian:python"
expect "its Python runs" "42" contree run --use "tag:debian:python" -D -- python3 -c 'print(6 * 7)'
