#!/usr/bin/env bash
# Brings llama.cpp, builds it for this machine and installs it where the Go packages find it, once: `make llama`.
#
#   llama.sh build   build it unless it is there
#   llama.sh where   the folder in which it is installed, or will be
#   llama.sh env     what a shell needs so that plain go commands compile: eval "$(make env)"
#   llama.sh chat    build the program that tests ask what llama.cpp makes of chat templates, unless it is there
#   llama.sh llvmpipe  what a shell needs to run GPU=vulkan without a GPU
#
# GPU=vulkan, cuda or metal adds that backend, in a folder of its own; metal is the default on a Mac, none elsewhere.
# LLAMA_SRC=dir builds a checkout of llama.cpp instead of the pinned release. LLAMA_PREFIX=dir takes one that is installed
# there, LLAMA_PREFIX=system the one that pkg-config knows, with what backends they have. SANITIZE=address
# builds with that sanitizer, for make test-asan. docs/upgrading-llama.cpp.md says how the pin is moved.
set -euo pipefail

# llama.cpp comes with the source package of its Python binding: docs/decisions/0011-llama-source.md.
package=llama-cpp-python version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
commit=0c1e57098 # of llama.cpp, which the package does not tell its build

options=(
  -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DCMAKE_INSTALL_LIBDIR=lib
  -DGGML_NATIVE=ON -DGGML_OPENMP=OFF -DGGML_METAL=OFF -DGGML_BLAS=OFF -DGGML_CCACHE=OFF
  -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
  -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF -DLLAMA_OPENSSL=OFF
)
pinned=(-DLLAMA_BUILD_COMMIT="$commit" -DLLAMA_BUILD_NUMBER=0 -DGIT_EXE=)

cc=${CC:-cc}
cxx=${CXX:-c++}
say() { echo "llama.sh: $*" >&2; }
die() { say "$@"; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

# loses_tiles says whether the compiler loses what ggml writes into the configuration of AMX's tiles before it is loaded, as gcc
# before 14 does on a processor that has them: what runs then ends at an illegal instruction, or computes with tiles of any shape.
loses_tiles() {
  local defined
  defined=$($cc -march=native -dM -E -x c /dev/null 2>/dev/null) || return 1
  [[ $defined == *__AMX_TILE__* && $defined != *__clang__* && $(sed -n 's/^#define __GNUC__ //p' <<<"$defined") -lt 14 ]]
}

flags=""
! loses_tiles || flags="-mno-amx-tile -mno-amx-int8 -mno-amx-bf16"

# A sanitizer gets symbols and little optimization. The C of the Go packages gets it by the pkg-config file.
sanitize=${SANITIZE:+-fsanitize=$SANITIZE}
if [[ -n $sanitize ]]; then
  flags="$sanitize -fno-omit-frame-pointer${flags:+ $flags}"
  options+=("-DCMAKE_C_FLAGS_RELEASE=-O1 -g1 -DNDEBUG" "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -g1 -DNDEBUG")
fi
if [[ -n $flags ]]; then
  options+=("-DCMAKE_C_FLAGS=${CFLAGS:+$CFLAGS }$flags" "-DCMAKE_CXX_FLAGS=${CXXFLAGS:+$CXXFLAGS }$flags")
fi

# shellcheck source=gpu.sh
. "$(dirname "${BASH_SOURCE[0]}")/gpu.sh"

# ---- where

machine() { uname -sm; { grep -m1 -E '^(flags|Features)' /proc/cpuinfo || sysctl -n machdep.cpu.brand_string; } 2>/dev/null || true; }
compilers() { echo "$cc $cxx ${CFLAGS:-} ${CXXFLAGS:-}"; { $cc --version; $cxx --version; } 2>/dev/null || true; }
number() { cksum | cut -d' ' -f1; }
contents() { (cd "$1" && find CMakeLists.txt cmake ggml include src vendor -type f -exec cksum {} + | sort) 2>/dev/null || true; }
libraries() { ls -lL "$1"/lib*/libllama* "$1"/lib*/libggml* 2>/dev/null || true; }

# key names what would be built or taken: another release, other options, compilers or processors get another folder.
key() {
  if [[ ${LLAMA_PREFIX:-} == system ]]; then
    echo "system-$({ pkg-config --modversion --cflags --libs llama 2>/dev/null || true; libraries "$(pkg-config --variable=prefix llama 2>/dev/null)"; compilers; } | number)"
  elif [[ -n ${LLAMA_PREFIX:-} ]]; then
    echo "prefix-$({ echo "$LLAMA_PREFIX"; libraries "$LLAMA_PREFIX"; compilers; } | number)"
  elif [[ -n ${LLAMA_SRC:-} ]]; then
    echo "source-$({ echo "${options[@]}"; contents "$LLAMA_SRC"; compilers; machine; gpu_key; } | number)"
  else
    echo "$package-$version-$({ echo "$sha256" "${options[@]}" "${pinned[@]}"; compilers; machine; gpu_key; } | number)"
  fi
}

root=${LLAMA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/finetune/llama}
# What an earlier run told the shell is not what the system has.
PKG_CONFIG_PATH=$(tr : '\n' <<<"${PKG_CONFIG_PATH:-}" | grep -vF "$root/" | paste -s -d : - || true)
export PKG_CONFIG_PATH
where=$root/$(key)

# ---- the source

# pip asks the build system of a source package for the package's name before it keeps it. This answers, so that nothing of
# the package runs and nothing else is downloaded.
fake_build_system() {
  mkdir -p "$1/scikit_build_core"
  touch "$1/scikit_build_core/__init__.py"
  cat >"$1/scikit_build_core/build.py" <<END
import os
def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = "llama_cpp_python-$version.dist-info"
    os.mkdir(os.path.join(folder, info))
    with open(os.path.join(folder, info, "METADATA"), "w") as f:
        f.write("Metadata-Version: 2.1\nName: $package\nVersion: $version\n")
    return info
END
}

# bring puts the source of the pinned release into $1/source, with the folders named behind $1 besides those of the library;
# pip compares the checksum before it opens the archive.
bring() {
  local folders=(CMakeLists.txt LICENSE licenses cmake ggml include src vendor "${@:2}")
  have python3 && python3 -m pip --version >/dev/null 2>&1 || die "python3 with pip is missing: install python3-pip (brew install python3 on a Mac), or set LLAMA_SRC to a checkout of llama.cpp"
  fake_build_system "$1/stub"
  echo "$package==$version --hash=sha256:$sha256" >"$1/requirements.txt"
  say "downloading $package $version, 77 MB"
  PYTHONPATH=$1/stub python3 -m pip download --no-deps --no-binary :all: --no-build-isolation --no-cache-dir --progress-bar off \
    --disable-pip-version-check -d "$1" -r "$1/requirements.txt" >"$1/pip.log" 2>&1 || pip_failed "$1/pip.log"
  local top=llama_cpp_python-$version/vendor/llama.cpp
  mkdir "$1/source"
  tar -xzf "$1/llama_cpp_python-$version.tar.gz" -C "$1/source" --strip-components=3 "${folders[@]/#/$top/}"
}

pip_failed() {
  if grep -q 'DO NOT MATCH THE HASHES' "$1"; then
    die "$package $version has the SHA-256 $(sed -n 's/^ *Got *//p' "$1" | head -n 1), want $sha256: not taken"
  fi
  die "pip cannot bring $package $version: $(grep -v '^ *$' "$1" | tail -n 1) (LLAMA_SRC=dir takes a checkout of llama.cpp instead)"
}

# ---- the build

need_compilers() {
  have cmake || die "cmake is missing: install cmake (brew install cmake on a Mac)"
  have "$cc" && have "$cxx" || die "a compiler for C and C++ is missing: install gcc and g++, or clang (xcode-select --install on a Mac)"
  have ninja || have make || die "make is missing: install make or ninja-build"
}

# compile builds the source in $1 with more options and installs it into $2. Everything happens below $2's folder.
compile() {
  local source=$1 into=$2 log=$root/build.$$.log generator=(-G "Unix Makefiles")
  shift 2
  have ninja && generator=(-G Ninja)
  say "building llama.cpp, once, some minutes (log: $log)"
  { CC=$cc CXX=$cxx cmake -S "$source" -B "$into.build" "${generator[@]}" -DCMAKE_INSTALL_PREFIX="$into" "${options[@]}" "$@" &&
    cmake --build "$into.build" --target llama --parallel "$(getconf _NPROCESSORS_ONLN)" &&
    cmake --install "$into.build"; } >"$log" 2>&1 || { tail -n 20 "$log" >&2; die "llama.cpp does not build: $log"; }
  rm -f "$log"
}

# ---- what Go needs of it

# libs are the linker's words for what is in folder $1 of libraries.
libs() {
  if [[ -f $1/libllama.a ]]; then
    echo "-L$1 -lllama -lggml$(gpu_libs "$1") $(runtime)"
  else
    echo "-L$1 -Wl,-rpath,$1 -lllama -lggml -lggml-cpu -lggml-base $(runtime)"
  fi
}

runtime() { if [[ $(uname) == Darwin ]]; then echo "-lc++ -framework Accelerate"; else echo "-lstdc++ -lm -lpthread -ldl"; fi; }

# describe asks the library for its release, for the Check of the fence, and writes the pkg-config file. A program that does
# not compile, link or start here would not later.
describe() {
  local into=$1 cflags=$2 libs=$3
  mkdir -p "$into/include" "$into/lib/pkgconfig" "$into/bin"
  cat >"$into/probe.c" <<'END'
#include <stdio.h>
#include <ggml-cpu.h>
#include <llama.h>
int main(void) {
	ggml_backend_t cpu = ggml_backend_cpu_init();
	printf("#define LLAMA_RELEASE \"%s\"\n#define LLAMA_RELEASE_GGML \"%s %s\"\n", llama_version(), ggml_version(), ggml_commit());
	return cpu == NULL;
}
END
  [[ $libs != *-lcuda* ]] || stand_in "$into/probe.libs"
  # shellcheck disable=SC2086
  if ! { $cc -I"$into/include" $cflags "$into/probe.c" -o "$into/probe" $libs &&
    LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$into/probe.libs" ASAN_OPTIONS=detect_leaks=0 "$into/probe" >"$into/include/llama-release.h"; } 2>"$into/probe.log"; then
    die "the llama.cpp at $(echo "$libs" | cut -d' ' -f1) cannot be used: $(grep -m1 -E 'error|undefined|cannot' "$into/probe.log" || tail -n 1 "$into/probe.log")"
  fi
  rm -r "$into"/probe*
  cflags="-I$where/include $cflags" libs=${libs//$into/$where}
  cat >"$into/lib/pkgconfig/llama.pc" <<END
Name: llama
Description: llama.cpp as finetune links it
Version: $(sed -n 's/^#define LLAMA_RELEASE "\(.*\)"/\1/p' "$into/include/llama-release.h")
Cflags: $cflags
Libs: $libs
END
  # For machines without pkg-config: the two questions that go asks, answered for this one package.
  cat >"$into/bin/pkg-config" <<END
#!/bin/sh
case "\$1" in
--cflags) echo "$cflags" ;;
--libs) echo "$libs" ;;
*) echo "pkg-config: only --cflags and --libs are known here" >&2; exit 1 ;;
esac
END
  chmod +x "$into/bin/pkg-config"
}

# build fills a folder of its own and renames it when it is whole. Who comes second throws its own away.
build() {
  [[ -d $where ]] && return
  have "$cc" || need_compilers
  mkdir -p "$root"
  temp=$(mktemp -d "$root/.new.XXXXXX")
  trap 'rm -rf "$temp"' EXIT
  local into=$temp/installed
  if [[ ${LLAMA_PREFIX:-} == system ]]; then
    have pkg-config && pkg-config --exists llama || die "LLAMA_PREFIX=system, but pkg-config knows no llama: install libllama's development files"
    describe "$into" "$(pkg-config --cflags llama)" "$(pkg-config --libs llama) -lggml-cpu $(runtime)"
  elif [[ -n ${LLAMA_PREFIX:-} ]]; then
    local lib
    lib=$(cd "$LLAMA_PREFIX" 2>/dev/null && ls -d "$PWD"/lib*/libllama.* 2>/dev/null | head -n 1) || true
    [[ -n $lib ]] || die "LLAMA_PREFIX=$LLAMA_PREFIX has no lib/libllama"
    describe "$into" "-I$(dirname "$(dirname "$lib")")/include" "$(libs "$(dirname "$lib")")"
  else
    need_compilers
    need_gpu "$temp/gpu"
    if [[ -n ${LLAMA_SRC:-} ]]; then
      [[ -f $LLAMA_SRC/include/llama.h ]] || die "LLAMA_SRC=$LLAMA_SRC is no checkout of llama.cpp: it has no include/llama.h"
      compile "$LLAMA_SRC" "$into"
    else
      bring "$temp"
      compile "$temp/source" "$into" "${pinned[@]}"
    fi
    describe "$into" "$sanitize" "$(libs "$into/lib")${sanitize:+ $sanitize}"
  fi
  mv "$into" "$where" 2>/dev/null || true
  rm -rf "${where:?}/installed" # where another one had been faster
  [[ -d $where ]] || die "cannot write $where"
}

# ---- llama.cpp's chat code, for tests

# chat compiles the parts of llama.cpp's common code that write and read chats with chat/testdata/llama/oracle.cpp, and puts
# the templates that come with the source beside it. It prints the folder.
chat() {
  build
  local program into
  program=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/chat/testdata/llama/oracle.cpp
  into=$where-chat-$(number <"$program")
  [[ ${2:-} == where || -d $into ]] || compile_chat "$program" "$into"
  echo "$into"
}

compile_chat() {
  temp=$(mktemp -d "$root/.new.XXXXXX")
  trap 'rm -rf "$temp"' EXIT
  local source=${LLAMA_SRC:-$temp/source}
  [[ -n ${LLAMA_SRC:-} ]] || bring "$temp" common models/templates
  say "building llama.cpp's chat code, once, some minutes"
  mkdir -p "$temp/objects" "$temp/made"
  (cd "$source/common" && ls chat.cpp chat-*.cpp json.cpp json-*.cpp log.cpp peg-parser.cpp unicode.cpp trie.cpp common.cpp reasoning-budget.cpp jinja/*.cpp parsers/*.cpp) |
    xargs -P "$(getconf _NPROCESSORS_ONLN)" -I{} sh -c 'mkdir -p "$3/$(dirname "$4")" && $1 -std=c++17 -O1 -w -ffunction-sections \
      -I"$2/common" -I"$2/include" -I"$2/ggml/include" -I"$2/vendor" -c "$2/common/$4" -o "$3/$4.o"' - "$cxx" "$source" "$temp/objects" {} >&2
  # shellcheck disable=SC2046
  $cxx -std=c++17 -O1 -w -I"$source/common" -I"$source/include" -I"$source/ggml/include" -I"$source/vendor" "$1" \
    $(find "$temp/objects" -name '*.o') -Wl,--gc-sections $(libs "$where/lib") -o "$temp/made/oracle" >&2
  cp -r "$source/models/templates" "$temp/made/templates"
  mv "$temp/made" "$2" 2>/dev/null || true
  [[ -d $2 ]] || die "cannot write $2"
}

case ${1:-} in
build) build ;;
chat) chat "$@" ;;
llvmpipe) llvmpipe ;;
where) echo "$where" ;;
env)
  echo "export PKG_CONFIG_PATH=\"$where/lib/pkgconfig${PKG_CONFIG_PATH:+:$PKG_CONFIG_PATH}\""
  # What pkg-config says is no part of what Go knows its cache by, and flags are.
  echo "export CGO_CPPFLAGS=\"$(tr ' ' '\n' <<<"${CGO_CPPFLAGS:-}" | grep -v '^-DFINETUNE_LLAMA=' | paste -s -d ' ' || true) -DFINETUNE_LLAMA=$(basename "$where")\""
  [[ -z ${GPU:-} ]] || echo "export GPU=\"$GPU\""
  have pkg-config || echo "export PKG_CONFIG=\"$where/bin/pkg-config\""
  ;;
*) die "usage: llama.sh build | where | env | chat | llvmpipe" ;;
esac
