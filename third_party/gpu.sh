# What the backends for GPUs need to be built and linked, for llama.sh, which reads this: GPU=none, vulkan, cuda or metal.
# docs/gpu.md says how each is used, docs/decisions/0016-vulkan-headers.md where Vulkan's headers come from.

gpu=${GPU:-$([[ $(uname) == Darwin ]] && echo metal || echo none)}

# Debian 12's headers of Vulkan are older than what ggml-vulkan.cpp needs, Debian 13's are not; a loader of any age will do.
headers_release=trixie headers_version=1.4.309.0-1
headers_sha256() {
  case $1 in
  amd64) echo 8d329d465e16168afff58b1bd0dd6db46aac2cc3f56054a481b25a04e90b345a ;;
  arm64) echo 3244f0422d3c5cf14f5d13bc48a0cae7786d94ea0ceff22414c094388666e70d ;;
  esac
}

# cuda is where the toolkit is.
cuda() {
  local PATH=$PATH:${CUDA_PATH:-/usr/local/cuda}/bin:/opt/cuda/bin
  dirname "$(dirname "$(readlink -f "$(command -v nvcc || echo /no/bin/nvcc)")")"
}

sdk() { [[ -z ${VULKAN_SDK:-} ]] || echo "-I$VULKAN_SDK/include -L$VULKAN_SDK/lib"; }

case $gpu in
none) ;;
vulkan) options+=(-DGGML_VULKAN=ON) ;;
metal) options+=(-DGGML_METAL=ON -DGGML_METAL_EMBED_LIBRARY=ON) ;;
cuda) options+=(-DGGML_CUDA=ON -DGGML_CUDA_NCCL=OFF "-DCMAKE_CUDA_ARCHITECTURES=${CUDA_ARCHITECTURES:-native}") ;;
*) die "GPU=$gpu, want none, vulkan, cuda or metal" ;;
esac

# gpu_key is what else than options decides what is built.
gpu_key() {
  case $gpu in
  vulkan) { glslc --version; echo "${VULKAN_SDK:-} $headers_version"; } 2>/dev/null || true ;;
  cuda) { "$(cuda)/bin/nvcc" --version; cuda; } 2>/dev/null || true ;;
  esac
}

# need_gpu ends with a line that names what is missing, and adds to options where they are; $1 is a folder for headers.
need_gpu() {
  case $gpu in
  vulkan) need_vulkan "$1" ;;
  metal) have xcrun && xcrun --show-sdk-path >/dev/null 2>&1 || die "GPU=metal needs the SDK of macOS: xcode-select --install, or GPU=none" ;;
  cuda) need_cuda ;;
  esac
}

# compiles says whether the lines of C on its input compile and link with the arguments.
compiles() { $cc -x c - -o /dev/null "$@" >/dev/null 2>&1; }

need_vulkan() {
  have glslc || die "GPU=vulkan needs the compiler of shaders: install glslc (brew install shaderc on a Mac, glslang-tools or shaderc elsewhere)"
  # shellcheck disable=SC2046
  compiles $(sdk) -lvulkan <<<'int main(void) { return 0; }' ||
    die "GPU=vulkan needs Vulkan's loader: install libvulkan-dev (vulkan-loader-devel, vulkan-icd-loader, or the Vulkan SDK with VULKAN_SDK set)"
  # shellcheck disable=SC2046
  compiles $(sdk) -c <<<'#include <spirv/unified1/spirv.h>' ||
    die "GPU=vulkan needs the headers of SPIR-V: install spirv-headers (spirv-headers-devel, or the Vulkan SDK with VULKAN_SDK set)"
  # shellcheck disable=SC2046
  if ! compiles $(sdk) -c <<<$'#include <vulkan/vulkan_core.h>\n#ifndef VK_EXT_layer_settings\n#error\n#endif'; then
    vulkan_headers "$1"
    options+=("-DVulkan_INCLUDE_DIR=$1/usr/include")
  fi
}

# vulkan_headers puts newer headers of Vulkan below $1. apt brings them from the archive that it takes Debian's packages from,
# with lists of its own, so that nothing is installed and the machine's lists stay; the checksum is compared before it is opened.
vulkan_headers() {
  local old wants="install headers of Vulkan 1.3.272 or later, or the Vulkan SDK with VULKAN_SDK set"
  # shellcheck disable=SC2046
  old=$($cc $(sdk) -E -x c - 2>/dev/null <<<$'#include <vulkan/vulkan_core.h>\nVK_HEADER_VERSION' | tail -n 1)
  have apt-get && have dpkg-deb && [[ $(. /etc/os-release && echo "$ID") == debian ]] ||
    die "the headers of Vulkan here, 1.3.$old, are too old for llama.cpp: $wants"
  local archive architecture apt
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
  architecture=$(dpkg --print-architecture)
  [[ -n $archive && -n $(headers_sha256 "$architecture") ]] ||
    die "the headers of Vulkan here, 1.3.$old, are too old for llama.cpp, and apt-get has no list of Debian's packages for $architecture: apt-get update, or $wants"
  say "the headers of Vulkan here, 1.3.$old, are too old: bringing libvulkan-dev $headers_version, without installing it"
  mkdir -p "$1/lists/partial" "$1/archives/partial"
  echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $headers_release main" >"$1/sources.list"
  apt=(apt-get -q -o "Dir::Etc::SourceList=$1/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$1/lists"
    -o "Dir::Cache=$1" -o "Dir::Cache::Archives=$1/archives" -o Acquire::Languages=none -o APT::Sandbox::User=)
  ("${apt[@]}" update && cd "$1" && "${apt[@]}" download "libvulkan-dev=$headers_version") >"$1/apt.log" 2>&1 ||
    die "apt-get cannot bring libvulkan-dev $headers_version: $(grep -m1 '^E: ' "$1/apt.log" || tail -n 1 "$1/apt.log") ($wants)"
  local package got
  package=$(ls "$1"/libvulkan-dev_*.deb)
  got=$(sha256sum "$package" | cut -d' ' -f1)
  [[ $got == $(headers_sha256 "$architecture") ]] ||
    die "libvulkan-dev $headers_version has the SHA-256 $got, want $(headers_sha256 "$architecture"): not taken"
  dpkg-deb -x "$package" "$1"
}

need_cuda() {
  [[ -x $(cuda)/bin/nvcc ]] || die "GPU=cuda needs nvcc: install the CUDA toolkit, into /usr/local/cuda or with CUDA_PATH set"
  options+=("-DCUDAToolkit_ROOT=$(cuda)" "-DCMAKE_CUDA_COMPILER=$(cuda)/bin/nvcc" "-DCMAKE_CUDA_HOST_COMPILER=$cxx")
}

# gpu_libs are the linker's words for the backends among the static libraries in folder $1, and for what those need.
gpu_libs() {
  local backends="" needs=""
  if [[ -f $1/libggml-vulkan.a ]]; then
    backends+=" -lggml-vulkan" needs+=" ${VULKAN_SDK:+-L$VULKAN_SDK/lib }-lvulkan"
  fi
  if [[ -f $1/libggml-metal.a ]]; then
    backends+=" -lggml-metal" needs+=" -framework Foundation -framework Metal -framework MetalKit"
  fi
  if [[ -f $1/libggml-cuda.a ]]; then
    backends+=" -lggml-cuda" needs+=" $(cuda_libs)"
  fi
  echo "$backends -lggml-cpu -lggml-base$needs"
}

# cuda_libs name the driver's library too: the linker finds it, or a stub of it beside the toolkit, the loader the driver's.
cuda_libs() {
  local lib
  for lib in "$(cuda)"/lib64 "$(cuda)"/targets/*/lib "$(cuda)"/lib; do
    [[ -e $lib/libcudart.so ]] && break
  done
  echo "-L$lib -Wl,-rpath,$lib -lcudart -lcublas -L$lib/stubs -lcuda"
}
