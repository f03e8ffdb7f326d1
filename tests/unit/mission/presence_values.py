"""Any presence at all, for tests by example."""

from hypothesis import strategies as st

from ice.mission.presence import Connectivity, Descriptor, GroupAlias, Identity, Location, Power

# What XML can carry too: no control characters but the line's own, no halves of pairs, no white space at the ends.
words = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cn"]) | st.sampled_from("\n\t"), max_size=40
).map(str.strip)
node_ids = st.text(
    st.characters(categories=["L", "N", "P", "S"], exclude_characters="{}"), min_size=1, max_size=40
)
u32 = st.integers(0, 0xFFFF_FFFF)


def decimals(low: float, high: float, digits: int) -> st.SearchStrategy[float]:
    """Numbers as they are written."""
    scale = 10**digits
    return st.integers(int(low * scale), int(high * scale)).map(lambda whole: round(whole / scale, digits))


locations = st.builds(
    Location,
    decimals(-90, 90, 7).filter(bool),
    decimals(-180, 180, 7),
    st.none() | decimals(-500, 9_000, 2),
    st.none() | decimals(0, 359.9, 1),
    st.none() | decimals(0, 300, 2),
    u32,
)
powers = st.builds(Power, st.integers(1, 2), st.integers(1, 4), st.integers(1, 100))
links = st.builds(Connectivity, st.integers(1, 3), st.integers(-150, 0), st.integers(0, 9))
descriptors = st.builds(
    Descriptor,
    st.builds(Identity, node_ids, words, words, words),
    ts=st.integers(1, 4_000_000_000),
    next_update=st.integers(4_000_000_001, 4_294_967_295),
    comment=words,
    disposition=u32,
    group_aliases=st.lists(st.builds(GroupAlias, words, words, st.integers(0, 65_535)), max_size=4).map(
        tuple
    ),
    location=st.none() | locations,
    custom=words,
    announce_on_receive=st.booleans(),
    connectivity=st.none() | links,
    power=st.none() | powers,
)
