# What the backends for GPUs need to be built and linked, for llama.sh, which reads this: GPU=none, vulkan, cuda or metal.
# docs/gpu.md says how each is used, docs/decisions/0016-vulkan-headers.md where Vulkan's headers come from.

gpu=${GPU:-$([[ $(uname) == Darwin ]] && echo metal || echo none)}

# What Debian 12 has too old of, and where a newer one is: release, version and SHA-256 by architecture. Its headers of Vulkan lack
# what ggml-vulkan.cpp needs, a loader of any age will do. Its llvmpipe frees memory twice.
debian_package() {
  case $1-$2 in
  libvulkan-dev-amd64) echo trixie 1.4.309.0-1 8d329d465e16168afff58b1bd0dd6db46aac2cc3f56054a481b25a04e90b345a ;;
  libvulkan-dev-arm64) echo trixie 1.4.309.0-1 3244f0422d3c5cf14f5d13bc48a0cae7786d94ea0ceff22414c094388666e70d ;;
  mesa-vulkan-drivers-amd64) echo bookworm-backports 25.0.7-2~bpo12+1 3899f1800424c60a05df5d6913076a526ca8fdbabec43672cd397563d1ca3263 ;;
  libdrm2-amd64) echo bookworm-backports 2.4.123-1~bpo12+1 9cc2f341964286295124a32d3625edb76730500625e54a1e682761f883064d7b ;;
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
  vulkan) { glslc --version; echo "${VULKAN_SDK:-} $(debian_package libvulkan-dev amd64 | cut -d' ' -f2)"; } 2>/dev/null || true ;;
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
  have glslc || die "GPU=vulkan needs the compiler of shaders: install glslc (brew install shaderc on a Mac; shaderc elsewhere)"
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

# vulkan_headers puts newer headers of Vulkan below $1.
vulkan_headers() {
  local old wants="install headers of Vulkan 1.3.272 or later, or the Vulkan SDK with VULKAN_SDK set"
  # shellcheck disable=SC2046
  old=$($cc $(sdk) -E -x c - 2>/dev/null <<<$'#include <vulkan/vulkan_core.h>\nVK_HEADER_VERSION' | tail -n 1)
  on_debian || die "the headers of Vulkan here, 1.3.$old, are too old for llama.cpp: $wants"
  say "the headers of Vulkan here, 1.3.$old, are too old"
  unpack_debian "$1" libvulkan-dev || die "$problem ($wants)"
}

on_debian() { have apt-get && have dpkg-deb && [[ $(. /etc/os-release && echo "$ID") == debian ]]; }

# unpack_debian unpacks packages of debian_package below $1, of which nothing is installed. apt brings them from the archive that
# it takes Debian's packages from, with lists of its own, so that the machine's stay; the checksum is compared before a package is
# opened. Where that fails, problem says why.
unpack_debian() {
  local into=$1 name release version sha256 archive architecture apt got
  shift
  architecture=$(dpkg --print-architecture)
  archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Component: main' 'Origin: Debian' 'Label: Debian' | sort -u | head -n 1)
  [[ -n $archive ]] || { problem="apt-get has no list of Debian's packages: apt-get update" && return 1; }
  mkdir -p "$into/lists/partial" "$into/archives/partial"
  apt=(apt-get -q -o "Dir::Etc::SourceList=$into/sources.list" -o Dir::Etc::SourceParts=- -o "Dir::State::Lists=$into/lists"
    -o "Dir::Cache=$into" -o "Dir::Cache::Archives=$into/archives" -o Acquire::Languages=none -o APT::Sandbox::User=)
  for name; do
    read -r release version sha256 < <(debian_package "$name" "$architecture") || { problem="there is no newer $name for $architecture" && return 1; }
    say "bringing $name $version, without installing it"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $release main" >"$into/sources.list"
    ("${apt[@]}" update && cd "$into" && "${apt[@]}" download "$name=$version") >"$into/apt.log" 2>&1 ||
      { problem="apt-get cannot bring $name $version: $(grep -m1 '^E: ' "$into/apt.log" || tail -n 1 "$into/apt.log")" && return 1; }
    got=$(sha256sum "$into/${name}_"*.deb | cut -d' ' -f1)
    [[ $got == "$sha256" ]] || { problem="$name $version has the SHA-256 $got, want $sha256: not taken" && return 1; }
    dpkg-deb -x "$into/${name}_"*.deb "$into"
  done
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

# cuda_lib is the folder of CUDA's libraries.
cuda_lib() {
  local lib
  for lib in "$(cuda)"/lib64 "$(cuda)"/targets/*/lib "$(cuda)"/lib; do
    [[ -e $lib/libcudart.so ]] && break
  done
  echo "$lib"
}

# stand_in puts a stub of CUDA's driver into folder $1, by the name that the loader looks for: what has the backend in it starts
# where there is no driver, as in a container that only builds.
stand_in() {
  local stub
  stub=$(cuda_lib)/stubs/libcuda.so
  [[ ! -e $stub ]] || { mkdir -p "$1" && ln -sf "$stub" "$1/libcuda.so.1"; }
}

# cuda_libs name the driver's library too: the linker finds it, or a stub of it beside the toolkit, the loader the driver's.
cuda_libs() {
  local lib
  lib=$(cuda_lib)
  echo "-L$lib -Wl,-rpath,$lib -lcudart -lcublas -L$lib/stubs -lcuda"
}

# llvmpipe prints what a shell needs to run on Mesa's Vulkan device in software: tests do where there is no GPU. Debian 12's own is
# replaced by a newer one that lies in $root. Shaders of fused operations are left out: LLVM takes minutes for one.
llvmpipe() {
  local icd library into=$root/llvmpipe-$(debian_package mesa-vulkan-drivers "$(dpkg --print-architecture 2>/dev/null)" | cksum | cut -d' ' -f1)
  if on_debian && [[ $(. /etc/os-release && echo "$VERSION_ID") == 12 ]]; then
    if [[ ! -d $into ]]; then
      mkdir -p "$root"
      temp=$(mktemp -d "$root/.new.XXXXXX")
      trap 'rm -rf "$temp"' EXIT
      unpack_debian "$temp/unpacked" mesa-vulkan-drivers libdrm2 || die "$problem"
      rm -rf "$temp/unpacked"/{lists,archives,*.deb,*.bin}
      library=$(ls "$temp/unpacked"/usr/lib/*/libvulkan_lvp.so)
      sed "s|\"library_path\": *\"[^\"]*\"|\"library_path\": \"${library/$temp\/unpacked/$into}\"|" "$temp/unpacked"/usr/share/vulkan/icd.d/lvp_icd*.json >"$temp/unpacked/llvmpipe.json"
      mv "$temp/unpacked" "$into" 2>/dev/null || [[ -d $into ]] || die "cannot write $into"
    fi
    icd=$into/llvmpipe.json
    echo "export LD_LIBRARY_PATH=\"$(dirname "$into"/usr/lib/*/libvulkan_lvp.so)${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}\""
  else
    icd=$(ls /usr/share/vulkan/icd.d/lvp_icd*.json 2>/dev/null | head -n 1)
    [[ -n $icd ]] || die "there is no llvmpipe: install mesa-vulkan-drivers"
  fi
  # One cache of shaders for all, tests with a home of their own among them: compiling them takes an hour.
  echo "export MESA_SHADER_CACHE_DIR=\"${MESA_SHADER_CACHE_DIR:-$root}\""
  echo "export VK_ICD_FILENAMES=\"$icd\" GGML_VK_VISIBLE_DEVICES=0 GGML_VK_DISABLE_FUSION=1 FINETUNE_TEST_DEVICE=vulkan"
}
