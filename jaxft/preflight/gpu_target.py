"""The target description that XLA needs to compile for a GPU that is not attached (`GpuTargetConfigProto`, openxla/xla)."""

# Architecture limits of compute capability 9.0 (CUDA C++ Programming Guide, table of technical specifications) and the clock
# of SXM boards. The cuDNN version is older than any in JAX's CUDA packages (9.12), as in XLA's own descriptions.
_HOPPER = """
gpu_device_info {{
  cuda_compute_capability {{ major: 9 feature_extension: ACCELERATED_FEATURES }}
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  l2_cache_size: 52428800 device_memory_size: {memory} memory_bandwidth: {bandwidth} device_address_bits: 64
  name: "{name}" driver_version: "13.0.0" runtime_version: "13.0.0" compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 10 patch: 0 }}
device_description_str: "{name}"
"""


def hopper(name: str, memory: float, bandwidth: float) -> str:
    """The target description of a Hopper GPU (H100, H200), a text protobuf.

    Args:
      name: the name of the device.
      memory: in bytes.
      bandwidth: memory bandwidth in bytes per second.
    """
    return _HOPPER.format(name=name, memory=int(memory), bandwidth=int(bandwidth))
