#!/usr/bin/env python3
"""Makes a kernel package for the stand-in for the kernel driver: a real xclbin whose configuration is a line of text.

    make_test_package.py aie2|aie2p int8|int4|attention|rows FOLDER
"""
import json
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import tandem_npu_kernels as tool  # noqa: E402

# Where the stand-in's design keeps its run-time parameter: kModelParameterAddress.
PARAMETER_ADDRESS = 2048
BUFFERS = 3
# What the stand-in's configuration of a package says.
CONFIGURATIONS = {"int8": "tandem-product int8", "int4": "tandem-product int4", "attention": "tandem-attention bf16", "rows": "tandem-rows float32"}


def memory_topology() -> dict:
    def memory(tag: str, kib: str) -> dict:
        return {"m_type": "MEM_DRAM", "m_used": "1", "m_sizeKB": kib, "m_tag": tag, "m_base_address": "0x4000000"}
    return {"mem_topology": {"m_count": "2", "m_mem_data": [memory("HOST", "0x10000"), memory("SRAM", "0xc000")]}}


def partition(columns: int, first: int, pdi: str) -> dict:
    return {"aie_partition": {
        "name": "QoS", "operations_per_cycle": "2048", "inference_fingerprint": "1", "pre_post_fingerprint": "1",
        "partition": {"column_width": columns, "start_columns": [first]},
        "PDIs": [{"uuid": "00000000-0000-0000-0000-000000000001", "file_name": pdi,
                  "cdo_groups": [{"name": "DPU", "type": "PRIMARY", "pdi_id": "0x01", "dpu_kernel_ids": ["0x901"], "pre_cdo_groups": ["0xC1"]}]}]}}


def kernels() -> dict:
    arguments = [
        {"name": "opcode", "address-qualifier": "SCALAR", "type": "uint64_t", "offset": "0x00"},
        {"name": "instr", "memory-connection": "SRAM", "address-qualifier": "GLOBAL", "type": "char *", "offset": "0x08"},
        {"name": "ninstr", "address-qualifier": "SCALAR", "type": "uint32_t", "offset": "0x10"}]
    arguments += [{"name": f"bo{i}", "memory-connection": "HOST", "address-qualifier": "GLOBAL", "type": "void*", "offset": hex(0x14 + 8 * i)}
                  for i in range(BUFFERS)]
    return {"ps-kernels": {"kernels": [{
        "name": "MLIR_AIE", "type": "dpu", "extended-data": {"subtype": "DPU", "functional": "0", "dpu_kernel_id": "0x901"},
        "arguments": arguments, "instances": [{"name": "MLIRAIE"}]}]}}


def make_xclbin(generation: str, package: str, out: pathlib.Path) -> None:
    columns, first = (4, 1) if generation == "aie2" else (8, 0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "design.pdi").write_bytes(f"{CONFIGURATIONS[package]} {generation}".encode().ljust(4096, b"\0"))
        sections = {"memory.json": memory_topology(), "partition.json": partition(columns, first, str(folder / "design.pdi")), "kernels.json": kernels()}
        for name, value in sections.items():
            (folder / name).write_text(json.dumps(value))
        command = ["xclbinutil", "--force", "--add-section", f"MEM_TOPOLOGY:JSON:{folder / 'memory.json'}", "--add-kernel", str(folder / "kernels.json"),
                   "--add-section", f"AIE_PARTITION:JSON:{folder / 'partition.json'}", "--output", str(out)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode != 0:
            sys.exit(f"make_test_package: xclbinutil failed:\n{result.stdout}{result.stderr}")


def main() -> None:
    if len(sys.argv) != 4 or sys.argv[1] not in tool.ARCH or sys.argv[2] not in tool.PACKAGES:
        sys.exit(__doc__)
    generation, package, folder = sys.argv[1], sys.argv[2], pathlib.Path(sys.argv[3])
    folder.mkdir(parents=True, exist_ok=True)
    xclbin = folder / f"{tool.kind_of(package)}.xclbin"
    make_xclbin(generation, package, xclbin)
    versions = {name: "none: for the stand-in" for name in tool.PINNED}
    text = tool.description(generation, package, PARAMETER_ADDRESS, xclbin.read_bytes(), versions)
    (folder / "package.json").write_text(json.dumps(text, indent=1) + "\n")


if __name__ == "__main__":
    main()
