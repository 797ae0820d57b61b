"""Knows the zone names that logs use, as fixed offsets: no summer time, no clock, no zone files.

Source: RFC 822 and the military letters; the names that Fail2ban knows.
"""

from __future__ import annotations

import re
from datetime import timedelta, timezone, tzinfo

_NAMES = """
-12 Y; -11 X NUT SST; -10 W CKT HAST HST TAHT TKT; -9.5 MART MIT; -9 V AKST GAMT GIT HADT HNY;
-8 U AKDT CIST HAY HNP PST PT; -7 T HAP HNR MST PDT; -6 S CST EAST GALT HAR HNC MDT;
-5 R CDT COT EASST ECT EST ET HAC HNE PET; -4.5 HLV VET; -4 Q AST BOT CLT COST EDT FKT GYT HAE HNA PYT;
-3.5 HNT NST NT; -3 P ADT ART BRT CLST FKST GFT HAA PMST PYST SRT UYT WGT; -2.5 HAT NDT;
-2 O BRST FNT PMDT UYST WGST; -1 N AZOT CVT EGT; 0 Z EGST GMT UTC WET WT; 1 A CET DFT WAT WEDT WEST;
2 B CAT CEDT CEST EET SAST WAST; 3 C EAT EEDT EEST IDT MSK; 3.5 IRST;
4 D AMT AZT GET GST KUYT MSD MUT RET SAMT SCT; 4.5 AFT IRDT; 5 E AMST AQTT AZST HMT MAWT MVT PKT TFT TJT TMT
UZT YEKT; 5.5 SLT; 5.75 NPT; 6 F ALMT BIOT BTT IOT KGT NOVT OMST YEKST; 6.5 CCT MMT;
7 G CXT DAVT HOVT ICT KRAT NOVST OMSST THA WIB; 8 H ACT AWST BDT BNT CAST HKT IRKT KRAST MYT PHT SGT ULAT
WITA WST; 9 I AWDT IRKST JST KST PWT TLT WDT WIT YAKT; 9.5 ACST; 10 K AEST ChST PGT VLAT YAKST YAPT;
10.5 ACDT LHST; 11 L AEDT LHDT MAGT NCT PONT SBT VLAST VUT; 11.5 NFT; 12 M ANAST ANAT FJT GILT MAGST MHT
NZST PETST PETT TVT WFT; 13 FJST NZDT
"""
_OFFSETS = {
    name: timezone(timedelta(hours=float(hours)))
    for hours, *names in (group.split() for group in _NAMES.split(";"))
    for name in names
}
_NUMERIC = re.compile(r"([A-Za-z]*)([+-])(\d\d)(?::?(\d\d))?", re.ASCII)


def find_zone(text: str) -> tzinfo | None:
    """Return the zone that a name (`CEST`) or an offset (`+0530`, `UTC-03:00`) means, else None."""
    zone = _OFFSETS.get(text)
    if zone is not None:
        return zone
    found = _NUMERIC.fullmatch(text)
    if found is None or (found[1] and found[1] not in _OFFSETS):
        return None
    offset = timedelta(hours=int(found[3]), minutes=int(found[4] or 0))
    if found[2] == "-":
        offset = -offset
    if found[1]:
        offset += _OFFSETS[found[1]].utcoffset(None)
    try:
        return timezone(offset)
    except ValueError:  # a day or more
        return None
