"""The words of the grammar, one line each: English, German, French, with the forms that inflection needs.

The fields of a line are those of the classes in forms.py. No French noun begins with a vowel, so that articles need no
elision. No two lines have a translation in common, so that a sentence has exactly one translation.
"""

from concertina.corpora.synthesis.forms import Adjective, Noun, Triple, Verb, rows, triples

OBJECTS = [
    Noun(*row)
    for row in rows("""
lamp, lamps, lampe, f, lampen, lampe, f, lampes
table, tables, tisch, m, tische, table, f, tables
boat, boats, boot, n, boote, bateau, m, bateaux
door, doors, tür, f, türen, porte, f, portes
book, books, buch, n, bücher, livre, m, livres
key, keys, schlüssel, m, schlüssel, clé, f, clés
bottle, bottles, flasche, f, flaschen, bouteille, f, bouteilles
chair, chairs, stuhl, m, stühle, chaise, f, chaises
window, windows, fenster, n, fenster, fenêtre, f, fenêtres
car, cars, auto, n, autos, voiture, f, voitures
bag, bags, tasche, f, taschen, sac, m, sacs
letter, letters, brief, m, briefe, lettre, f, lettres
knife, knives, messer, n, messer, couteau, m, couteaux
box, boxes, kiste, f, kisten, boîte, f, boîtes
clock, clocks, uhr, f, uhren, pendule, f, pendules
coat, coats, mantel, m, mäntel, manteau, m, manteaux
cup, cups, tasse, f, tassen, tasse, f, tasses
picture, pictures, bild, n, bilder, tableau, m, tableaux
telephone, telephones, telefon, n, telefone, téléphone, m, téléphones
hat, hats, hut, m, hüte, chapeau, m, chapeaux
shirt, shirts, hemd, n, hemden, chemise, f, chemises
bicycle, bicycles, fahrrad, n, fahrräder, vélo, m, vélos
horse, horses, pferd, n, pferde, cheval, m, chevaux
dog, dogs, hund, m, hunde, chien, m, chiens
cat, cats, katze, f, katzen, chat, m, chats
fish, fishes, fisch, m, fische, poisson, m, poissons
mirror, mirrors, spiegel, m, spiegel, miroir, m, miroirs
spoon, spoons, löffel, m, löffel, cuillère, f, cuillères
basket, baskets, korb, m, körbe, panier, m, paniers
pencil, pencils, bleistift, m, bleistifte, crayon, m, crayons
newspaper, newspapers, zeitung, f, zeitungen, journal, m, journaux
ticket, tickets, fahrkarte, f, fahrkarten, billet, m, billets
carpet, carpets, teppich, m, teppiche, tapis, m, tapis
hammer, hammers, hammer, m, hämmer, marteau, m, marteaux
suitcase, suitcases, koffer, m, koffer, valise, f, valises
guitar, guitars, gitarre, f, gitarren, guitare, f, guitares
""")
]

ADJECTIVES = [
    Adjective(en, de, fr, feminine, plural, feminines, place == "before")
    for en, de, fr, feminine, plural, feminines, place in rows("""
red, rot, rouge, rouge, rouges, rouges, after
blue, blau, bleu, bleue, bleus, bleues, after
green, grün, vert, verte, verts, vertes, after
yellow, gelb, jaune, jaune, jaunes, jaunes, after
black, schwarz, noir, noire, noirs, noires, after
white, weiß, blanc, blanche, blancs, blanches, after
brown, braun, brun, brune, bruns, brunes, after
grey, grau, gris, grise, gris, grises, after
small, klein, petit, petite, petits, petites, before
big, groß, grand, grande, grands, grandes, before
old, alt, vieux, vieille, vieux, vieilles, before
new, neu, nouveau, nouvelle, nouveaux, nouvelles, before
beautiful, schön, beau, belle, beaux, belles, before
long, lang, long, longue, longs, longues, before
heavy, schwer, lourd, lourde, lourds, lourdes, after
clean, sauber, propre, propre, propres, propres, after
dirty, schmutzig, sale, sale, sales, sales, after
broken, kaputt, cassé, cassée, cassés, cassées, after
round, rund, rond, ronde, ronds, rondes, after
empty, leer, vide, vide, vides, vides, after
warm, warm, chaud, chaude, chauds, chaudes, after
cold, kalt, froid, froide, froids, froides, after
strange, seltsam, bizarre, bizarre, bizarres, bizarres, after
famous, berühmt, célèbre, célèbre, célèbres, célèbres, after
""")
]

LOCATIONS = [  # English, German in the dative, French
    Triple(*row)
    for row in rows("""
the bridge, der brücke, le pont
the house, dem haus, la maison
the station, dem bahnhof, la gare
the wall, der mauer, le mur
the castle, dem schloss, le château
the market, dem markt, le marché
the river, dem fluss, la rivière
the museum, dem museum, le musée
the bank, der bank, la banque
the garden, dem garten, le jardin
the cupboard, dem schrank, le placard
the sofa, dem sofa, le canapé
the bed, dem bett, le lit
the curtain, dem vorhang, le rideau
the kitchen, der küche, la cuisine
the forest, dem wald, la forêt
the tower, dem turm, la tour
the village, dem dorf, le village
""")
]

PREPOSITIONS = triples("""
behind, hinter, derrière
under, unter, sous
on, auf, sur
in front of, vor, devant
beside, neben, contre
""")

PEOPLE = triples("""
the doctor, der arzt, le médecin
the teacher, der lehrer, le professeur
the baker, der bäcker, le boulanger
the farmer, der bauer, le fermier
the painter, der maler, le peintre
the driver, der fahrer, le chauffeur
the cook, der koch, le cuisinier
the judge, der richter, le juge
the soldier, der soldat, le soldat
the singer, der sänger, le chanteur
the queen, die königin, la reine
the king, der könig, le roi
the neighbour, der nachbar, le voisin
the sister, die schwester, la sœur
the brother, der bruder, le frère
the mother, die mutter, la mère
the father, der vater, le père
the girl, das mädchen, la fille
the boy, der junge, le garçon
the prince, der prinz, le prince
""")

NAMES = """anna paul maria david laura martin julia peter sarah thomas emma lukas nina simon clara oscar eva victor
lena felix sofia daniel carla robert marta adam lisa jonas nora hugo rosa arthur diana leo vera max""".split()

VERBS = [
    Verb(*row)
    for row in rows("""
buys, kauft, achète, buy, kaufen, acheter
sells, verkauft, vend, sell, verkaufen, vendre
carries, trägt, porte, carry, tragen, porter
finds, findet, trouve, find, finden, trouver
paints, malt, peint, paint, malen, peindre
cleans, putzt, nettoie, clean, putzen, nettoyer
takes, nimmt, prend, take, nehmen, prendre
brings, bringt, apporte, bring, bringen, apporter
repairs, repariert, répare, repair, reparieren, réparer
washes, wäscht, lave, wash, waschen, laver
opens, öffnet, ouvre, open, öffnen, ouvrir
closes, schließt, ferme, close, schließen, fermer
hides, versteckt, cache, hide, verstecken, cacher
shows, zeigt, montre, show, zeigen, montrer
draws, zeichnet, dessine, draw, zeichnen, dessiner
forgets, vergisst, oublie, forget, vergessen, oublier
steals, stiehlt, vole, steal, stehlen, voler
sends, schickt, envoie, send, schicken, envoyer
""")
]

TIMES = triples("""
on monday, am montag, lundi
on tuesday, am dienstag, mardi
on wednesday, am mittwoch, mercredi
on thursday, am donnerstag, jeudi
on friday, am freitag, vendredi
on saturday, am samstag, samedi
on sunday, am sonntag, dimanche
today, heute, aujourd'hui
tomorrow, morgen, demain
tonight, heute abend, ce soir
every day, jeden tag, chaque jour
next week, nächste woche, la semaine prochaine
again, wieder, encore
""")

MANNERS = triples("""
slowly, langsam, lentement
quickly, schnell, rapidement
quietly, leise, doucement
carefully, vorsichtig, prudemment
now, jetzt, maintenant
later, später, plus tard
immediately, sofort, tout de suite
together, zusammen, ensemble
""")

EVENTS = triples("""
the train leaves, der zug fährt, le train part
the bus arrives, der bus kommt, le bus arrive
the film begins, der film beginnt, le film commence
the concert ends, das konzert endet, le concert finit
the shop closes, der laden schließt, le magasin ferme
the lesson begins, der unterricht beginnt, le cours commence
the flight lands, der flug landet, le vol atterrit
the game starts, das spiel startet, le match démarre
the party ends, die feier endet, la fête finit
the library opens, die bibliothek öffnet, la bibliothèque ouvre
""")

MONTHS = triples("""
january, januar, janvier
february, februar, février
march, märz, mars
april, april, avril
may, mai, mai
june, juni, juin
july, juli, juillet
august, august, août
september, september, septembre
october, oktober, octobre
november, november, novembre
december, dezember, décembre
""")

CITIES = triples("""
berlin, berlin, berlin
paris, paris, paris
london, london, londres
rome, rom, rome
madrid, madrid, madrid
vienna, wien, vienne
moscow, moskau, moscou
lisbon, lissabon, lisbonne
geneva, genf, genève
hamburg, hamburg, hambourg
milan, mailand, milan
brussels, brüssel, bruxelles
warsaw, warschau, varsovie
prague, prag, prague
copenhagen, kopenhagen, copenhague
athens, athen, athènes
""")

JOURNEYS = triples("""
travels, reist, voyage
flies, fliegt, vole
moves, zieht, déménage
drives, fährt, roule
writes, schreibt, écrit
walks, läuft, marche
""")

WEATHER = triples("""
windy, windig, venteux
sunny, sonnig, ensoleillé
cloudy, bewölkt, nuageux
rainy, regnerisch, pluvieux
foggy, neblig, brumeux
stormy, stürmisch, orageux
hot, heiß, torride
cool, kühl, frais
dry, trocken, sec
humid, feucht, humide
""")

LETTERS = "b c d f g h j k l m n p q r s t v w x z".split()

UNITS = triples("""
zero, null, zéro
one, eins, un
two, zwei, deux
three, drei, trois
four, vier, quatre
five, fünf, cinq
six, sechs, six
seven, sieben, sept
eight, acht, huit
nine, neun, neuf
ten, zehn, dix
eleven, elf, onze
twelve, zwölf, douze
thirteen, dreizehn, treize
fourteen, vierzehn, quatorze
fifteen, fünfzehn, quinze
sixteen, sechzehn, seize
seventeen, siebzehn, dix sept
eighteen, achtzehn, dix huit
nineteen, neunzehn, dix neuf
""")

TENS = triples("""
twenty, zwanzig, vingt
thirty, dreißig, trente
forty, vierzig, quarante
fifty, fünfzig, cinquante
sixty, sechzig, soixante
""")
