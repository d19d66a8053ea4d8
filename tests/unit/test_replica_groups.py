"""The notations of `replica_groups` in compiled programs."""

import pytest

from jaxft.preflight.replica_groups import first_group


@pytest.mark.parametrize(
    ("attribute", "devices"),
    [
        ("{{0,2},{1,3}}, use_global_device_ids=true", (0, 2)),
        ("{}, to_apply=%sum", ()),
        ("[2,4]<=[8], dimensions={0}", (0, 1, 2, 3)),
        ("[4,2]<=[2,4]T(1,0)", (0, 4)),
        ("mesh['x'=1,'data'=2,'fsdp'=4] {'fsdp'}, dimensions={1}", (0, 1, 2, 3)),
        ("mesh['data'=2,'fsdp'=4] {'data'}", (0, 4)),
        ("mesh['data'=2,'fsdp'=4] {'data','fsdp'}", (0, 1, 2, 3, 4, 5, 6, 7)),
        ("mesh['a'=8] {'a':(1)2}", (0, 4)),
        ("mesh['a'=8] {'a':(2)4}", (0, 1, 2, 3)),
        ("mesh['a'=8] {'a':(2)2}", (0, 2)),
    ],
)
def test_the_first_group(attribute, devices):
    assert first_group(f", channel_id=3, replica_groups={attribute}") == devices


def test_an_instruction_without_groups():
    assert first_group(", source_target_pairs={{0,1},{1,0}}") == ()
